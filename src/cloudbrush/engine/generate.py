"""A run, in running order: load, encode, noise, sample, decode, PNG."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cloudbrush.domain import infotext
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.sampling import find_sampler, resolve_schedule
from cloudbrush.engine import samplers, schedules
from cloudbrush.engine.batching import Batcher, Image
from cloudbrush.engine.conditioning import TextEncoding
from cloudbrush.engine.decoding import decode, to_png
from cloudbrush.engine.denoiser import Denoiser
from cloudbrush.engine.events import Done, ImageReady, StepTaken
from cloudbrush.engine.guidance import Guide
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.noise import image_noise
from cloudbrush.engine.preview import Preview
from cloudbrush.engine.runs import Run


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint and what is made of it once."""

    checkpoint: Checkpoint
    texts: TextEncoding
    denoiser: Denoiser
    preview: Preview


@dataclass(frozen=True, eq=False)
class Studio:
    """What all runs share."""

    models: LoadedModels[Loaded]
    batcher: Batcher
    decoding: threading.Lock  # one decode at a time, for the sake of memory


def generate(run: Run, studio: Studio) -> None:
    """Paint all images of a run, telling each as it is ready, and then `Done`."""
    generation = run.generation
    with ExitStack() as held:
        with run.stage("load"):
            loaded = held.enter_context(studio.models.using(run.models.checkpoint))
        with run.stage("encode"):
            guide = Guide.of(generation, loaded.texts, evaluations=generation.steps)
        sampling = _start_batch(run, studio, loaded, guide, batch=0)
        for batch in range(generation.batch_count):
            with run.stage("denoise"):
                latents = [image.result() for image in sampling]
            if batch + 1 < generation.batch_count:  # the denoiser need not wait for the decoding
                sampling = _start_batch(run, studio, loaded, guide, batch + 1)
            for position, image in enumerate(latents):
                with run.stage("decode"):
                    ready = _finish(run, studio, loaded, image, batch * generation.batch_size + position)
                run.tell(ready)
    run.tell(Done(dict(run.seconds)))


def _start_batch(run: Run, studio: Studio, loaded: Loaded, guide: Guide, batch: int) -> list[Future[Tensor]]:
    generation = run.generation
    sigmas = _sigmas(generation, loaded.checkpoint)
    progress = _Progress(run, loaded.preview, sigmas, batch)
    return [
        studio.batcher.start(
            Image(
                _sampling(generation, loaded.checkpoint, sigmas, batch * generation.batch_size + position),
                loaded.denoiser,
                guide,
                run.cancelled,
                partial(progress, position),
            )
        )
        for position in range(generation.batch_size)
    ]


def _sigmas(generation: Txt2Img, checkpoint: Checkpoint) -> list[float]:
    sampler = find_sampler(generation.sampler)
    assert sampler is not None  # Txt2Img only takes known ones
    schedule = resolve_schedule(sampler, generation.schedule)
    return schedules.build(schedule, generation.steps, checkpoint.sigmas)


def _sampling(
    generation: Txt2Img, checkpoint: Checkpoint, sigmas: list[float], index: int
) -> samplers.Sampling:
    """The sampler of one image, at its beginning: nothing but noise."""
    assert generation.width is not None
    assert generation.height is not None
    sides = (generation.height // checkpoint.downscale, generation.width // checkpoint.downscale)
    shape = (checkpoint.latent_channels, *sides)
    noise = image_noise(generation.noise_source, generation.seed + index, shape)
    device = checkpoint.placement.device
    return samplers.SAMPLERS[generation.sampler](
        noise().to(device) * sigmas[0], sigmas, lambda: noise().to(device), samplers.Options()
    )


class _Progress:
    """Steps of one batch: the batch is as far as its slowest image."""

    def __init__(self, run: Run, preview: Preview, sigmas: list[float], batch: int) -> None:
        self._run = run
        self._preview = preview
        self._sigmas = sigmas
        self._per_batch = len(sigmas) - 1
        self._before = batch * self._per_batch
        self._done = [0] * run.generation.batch_size
        self._told = 0

    def __call__(self, position: int, denoised: Tensor, sigma: float | None) -> None:
        done = self._per_batch if sigma is None else schedules.steps_done(self._sigmas, sigma)
        self._done[position] = max(self._done[position], done)
        step = min(self._done)
        if step <= self._told:
            return
        self._told = step
        preview = self._preview.jpeg(denoised) if self._run.preview_due() else None
        steps = self._run.generation.batch_count * self._per_batch
        self._run.tell(StepTaken(self._before + step, steps, preview))


def _finish(run: Run, studio: Studio, loaded: Loaded, latents: Tensor, index: int) -> ImageReady:
    seed = run.generation.seed + index
    text = infotext.write(run.generation, seed=seed, model_hash=loaded.checkpoint.sha256)
    with studio.decoding:
        image = decode(loaded.checkpoint, latents)
    return ImageReady(index, to_png(image, text), seed, text, image.width, image.height)
