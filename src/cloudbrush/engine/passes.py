"""A pass of a run: images sampled from where they begin to their final latents.

A plain run has one pass, hires fix a second one; a refiner takes over in the middle of a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor

from cloudbrush.domain.generation import Generation, Img2Img
from cloudbrush.engine.batching import Image
from cloudbrush.engine.denoiser import Denoiser, Request
from cloudbrush.engine.events import StepTaken
from cloudbrush.engine.guidance import Guide
from cloudbrush.engine.img2img import Beginning
from cloudbrush.engine.materials import Loaded, Studio
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.noise import Noise, Variation, image_noise
from cloudbrush.engine.runs import Run
from cloudbrush.engine.samplers import PairSampling, Sampling
from cloudbrush.engine.sampling import Plan
from cloudbrush.engine.schedules import steps_done
from cloudbrush.engine.sigmas import ModelSigmas

# Told after each prediction: the image's place in its batch, denoised latents, the share of the pass done.
OnStep = Callable[[int, Tensor, float], None]


@dataclass(frozen=True, eq=False)
class Painter:
    """A checkpoint, and what steers it through a pass."""

    loaded: Loaded
    guide: Guide
    sigmas: ModelSigmas


@dataclass(frozen=True, eq=False)
class Relay:
    """A refiner: another painter that takes over on the way and stays (specification 3.8)."""

    painter: Painter
    switch_at: float  # share of the way
    by_steps: bool  # the way is counted in evaluations, not in noise levels

    def takes_over(self, plan: Plan, evaluation: int, sigma: float) -> bool:
        """Whether it paints from the evaluation of that number on."""
        if self.by_steps:
            return evaluation / max(1, plan.calls) >= self.switch_at
        model = plan.span.model
        return (len(model.sigmas) - 1 - model.nearest(sigma)) / len(model.sigmas) >= self.switch_at


@dataclass(frozen=True, eq=False)
class Pass:
    """What the sampling of all images of a pass has in common."""

    run: Run
    plan: Plan
    painter: Painter
    relay: Relay | None
    sides: tuple[int, int]  # height and width of the latents

    def start(
        self, studio: Studio, index: int, beginning: Beginning, on_prediction: Callable[[Tensor, float], None]
    ) -> Sitting:
        """Begin to sample the image of that number."""
        sitting = Sitting(self, beginning)
        image = Image(
            self._sampling(index, beginning),
            sitting.ask,
            self.run.cancelled,
            lambda denoised, sigma: on_prediction(denoised, self._share_done(sigma)),
            restore=sitting.restore if beginning.painted is not None else None,
            wants_negative=self.plan.algorithm.wants_negative,
        )
        sitting.result = studio.batcher.start(image)
        return sitting

    def _sampling(self, index: int, beginning: Beginning) -> Sampling | PairSampling:
        generation = self.run.generation
        noise, seed = noise_of(generation, self.painter.loaded.checkpoint, index, self.sides)
        share = generation.noise_multiplier if isinstance(generation, Img2Img) else 1.0
        return self.plan.begin(noise, generation.noise_source, seed, beginning.latents, share)

    def _share_done(self, sigma: float | None) -> float:
        sigmas = self.plan.sigmas
        return 1.0 if sigma is None else steps_done(sigmas, sigma) / (len(sigmas) - 1)


class Sitting:
    """One image in a pass: who is asked for its predictions, and what is known of it beforehand."""

    result: Future[Tensor]

    def __init__(self, within: Pass, beginning: Beginning) -> None:
        self._pass = within
        self._beginning = beginning
        self._painter = within.painter
        self._shift: Tensor | None = None  # what the last request left out of the sampler's own latents

    def ask(self, evaluation: int, x: Tensor, sigma: float) -> tuple[Denoiser, Request]:
        """Whom to ask for the prediction of that number, from 0, and what."""
        plan, relay = self._pass.plan, self._pass.relay
        if relay and relay.takes_over(plan, evaluation, sigma):
            self._painter = relay.painter
        painter = self._painter
        timestep = plan.timestep(sigma, painter.sigmas)
        guidance = painter.guide.at(evaluation, timestep if plan.counts_timesteps else sigma)
        request = Request(self._known_restored(x, sigma), sigma, timestep, guidance, self._beginning.masked)
        return painter.loaded.denoiser, request

    def restore(self, denoised: Tensor) -> Tensor:
        """A prediction with what is known put back; samplers that count timesteps were asked with it."""
        if self._pass.plan.counts_timesteps:
            return denoised if self._shift is None else denoised + self._shift
        return self._beginning.restore(denoised)

    def finished(self) -> tuple[Tensor, Loaded]:
        """The final latents, once they are there, and who painted last. Raises what ended the image early."""
        return self._beginning.restore(self.result.result()), self._painter.loaded

    def _known_restored(self, x: Tensor, sigma: float) -> Tensor:
        """As the WebUI does: samplers that count timesteps are asked with the clean known part in place.

        What they make of the answer goes on from their own latents, so the difference is added to it again.
        """
        if self._beginning.painted is None or not self._pass.plan.counts_timesteps:
            return x
        scale = math.sqrt(sigma**2 + 1)
        restored = self._beginning.restore(x / scale) * scale
        self._shift = x - restored
        return restored


def noise_of(
    generation: Generation, checkpoint: Checkpoint, index: int, sides: tuple[int, int]
) -> tuple[Noise, int]:
    """The noise of one image on the checkpoint's device, and its seed."""
    seed, variation_seed = generation.seeds(index)
    variation = generation.variation
    drawn = image_noise(
        generation.noise_source,
        seed,
        (checkpoint.latent_channels, *sides),
        variation=Variation(variation_seed, variation.strength) if variation else None,
        resized_from=_resized_from(generation, checkpoint.downscale),
        seed_delta=generation.options.eta_noise_seed_delta,
    )
    device = checkpoint.placement.device
    return lambda: drawn().to(device), seed


def _resized_from(generation: Generation, downscale: int) -> tuple[int, int] | None:
    variation = generation.variation
    if variation is None or not variation.resizes:
        return None
    return variation.from_height // downscale, variation.from_width // downscale


class Progress:
    """Steps of a run over its batches and passes: a batch is as far as its slowest image."""

    def __init__(self, run: Run, passes: tuple[Pass, ...]) -> None:
        self._run = run
        self._passes = passes

    def of(self, number: int, batch: int) -> OnStep:
        """What one pass, by its number, over one batch tells to."""
        before = batch * self._per_batch + sum(each.plan.steps for each in self._passes[:number])
        total = self._per_batch * self._run.generation.batch_count
        return _Told(self._run, self._passes[number], before, total)

    @cached_property
    def _per_batch(self) -> int:
        return sum(each.plan.steps for each in self._passes)


class _Told:
    """How far one batch is in one pass."""

    def __init__(self, run: Run, within: Pass, before: int, total: int) -> None:
        self._run = run
        self._steps = within.plan.steps
        self._preview = within.painter.loaded.preview
        self._before = before
        self._total = total
        self._done = [0] * run.generation.batch_size
        self._told = 0

    def __call__(self, position: int, denoised: Tensor, share: float) -> None:
        self._done[position] = max(self._done[position], int(share * self._steps + 1e-6))
        step = min(self._done)
        if step <= self._told:
            return
        self._told = step
        preview = self._preview.jpeg(denoised) if self._run.preview_due() else None
        self._run.tell(StepTaken(self._before + step, self._total, preview))


def start_batch(
    within: Pass, studio: Studio, first: int, beginnings: list[Beginning], on_step: OnStep
) -> list[Sitting]:
    """Begin to sample the images from number `first` on, one per beginning."""
    return [
        within.start(studio, first + position, beginning, partial(on_step, position))
        for position, beginning in enumerate(beginnings)
    ]
