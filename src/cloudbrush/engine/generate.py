"""A run, in running order: load, encode, noise, sample, decode, PNG."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from cloudbrush.domain import infotext
from cloudbrush.domain.errors import ModelFileError, UnknownModel
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.prompt_editing import Timeline
from cloudbrush.domain.sampling import Sampler, find_sampler
from cloudbrush.engine.batching import Batcher, Image
from cloudbrush.engine.conditioning import Reader, TextEncoding
from cloudbrush.engine.decoding import decode, to_png
from cloudbrush.engine.denoiser import Denoiser
from cloudbrush.engine.events import Done, ImageReady, ModelFile, StepTaken
from cloudbrush.engine.extras import Extras
from cloudbrush.engine.guidance import Guide
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.noise import Noise, image_noise
from cloudbrush.engine.preview import Preview
from cloudbrush.engine.runs import Run
from cloudbrush.engine.sampling import Plan
from cloudbrush.engine.schedules import Span, steps_done
from cloudbrush.engine.shelf import Autoencoder, Shelf

Label = Callable[[int], str]  # seed -> infotext of the run's image with that seed


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint and what is made of it once."""

    checkpoint: Checkpoint
    texts: TextEncoding
    denoiser: Denoiser
    preview: Preview

    def decoding_by(self, other: Autoencoder) -> Loaded:
        """The same with another autoencoder; all else is shared."""
        return replace(self, checkpoint=replace(self.checkpoint, vae=other.vae), preview=other.preview)


@dataclass(frozen=True, eq=False)
class Studio:
    """What all runs share."""

    models: LoadedModels[ModelFile, Loaded]
    shelf: Shelf
    batcher: Batcher
    decoding: threading.Lock  # one decode at a time, for the sake of memory


def generate(run: Run, studio: Studio) -> None:
    """Paint all images of a run, telling each as it is ready, and then `Done`."""
    generation = run.generation
    with ExitStack() as held:
        with run.stage("load"):
            loaded = held.enter_context(studio.models.using(run.models.checkpoint))
            extras = held.enter_context(studio.shelf.extras(generation.prompt, run.models))
            _check_places(loaded, extras)
            if file := _vae_file(run):
                vae = held.enter_context(studio.shelf.autoencoder(file, loaded.checkpoint))
                loaded = loaded.decoding_by(vae)
        with run.stage("encode"):
            sampler = _sampler(generation)
            plan = Plan.of(sampler, generation.schedule, generation.steps, Span(loaded.checkpoint.sigmas))
            reader = Reader(loaded.texts, extras, run.check)
            guide = _guide(generation, sampler, plan, reader, extras)
            label = _label(run, extras, reader)
        start_batch = partial(_start_batch, run, studio, loaded, plan, guide)
        sampling = start_batch(0)
        for batch in range(generation.batch_count):
            with run.stage("denoise"):
                latents = [image.result() for image in sampling]
            if batch + 1 < generation.batch_count:  # the denoiser need not wait for the decoding
                sampling = start_batch(batch + 1)
            for index, image in enumerate(latents, start=batch * generation.batch_size):
                with run.stage("decode"):
                    ready = _finish(run, studio, loaded, label, image, index)
                run.tell(ready)
    run.tell(Done(dict(run.seconds)))


def _sampler(generation: Txt2Img) -> Sampler:
    sampler = find_sampler(generation.sampler)
    assert sampler is not None  # Txt2Img only takes known ones
    return sampler


def _vae_file(run: Run) -> ModelFile | None:
    name, file = run.generation.vae, run.models.vae
    if name is not None and file is None:
        raise UnknownModel(f"the VAE {name!r} is not there", field="vae", hint="Choose one of the list.")
    return file


def _check_places(loaded: Loaded, extras: Extras) -> None:
    """Raise `ModelFileError` for a network that would change nothing, whatever its strength."""
    for network in (wanted.network for wanted in extras.loras):
        if not (loaded.denoiser.has_place_for(network) or loaded.texts.has_place_for(network)):
            raise ModelFileError(
                f"no layer of the LoRA {network.name!r} is one of the checkpoint's",
                field="prompt",
                hint="It was made for another family of checkpoints.",
            )


def _guide(generation: Txt2Img, sampler: Sampler, plan: Plan, reader: Reader, extras: Extras) -> Guide:
    evaluations = generation.steps * (2 if sampler.second_order else 1)
    scale = generation.cfg_scale / plan.algorithm.guidance_divisor
    assert generation.width is not None
    assert generation.height is not None
    size = (generation.width, generation.height)
    timeline = Timeline(evaluations)
    return Guide.of(
        generation.prompt, generation.negative_prompt, reader, timeline, scale, extras, size=size
    )


def _label(run: Run, extras: Extras, reader: Reader) -> Label:
    vae = run.models.vae
    hashes = infotext.Hashes(
        vae=vae.sha256 if vae else "",
        loras={wanted.network.name: wanted.network.shorthash for wanted in extras.loras},
        embeddings={embedding.name: embedding.shorthash for embedding in reader.embeddings},
    )
    painted = run.generation.model_copy(update={"vae": vae.name if vae else None})
    checkpoint = run.models.checkpoint.sha256
    return lambda seed: infotext.write(painted, seed=seed, model_hash=checkpoint, others=hashes)


def _start_batch(
    run: Run, studio: Studio, loaded: Loaded, plan: Plan, guide: Guide, batch: int
) -> list[Future[Tensor]]:
    size = run.generation.batch_size
    progress = _Progress(run, loaded.preview, plan.sigmas, batch)
    return [
        studio.batcher.start(
            Image(
                plan.begin(*_noise(run.generation, loaded.checkpoint, batch * size + position)),
                loaded.denoiser,
                guide,
                run.cancelled,
                partial(progress, position),
                timestep=plan.timestep,
                wants_negative=plan.algorithm.wants_negative,
            )
        )
        for position in range(size)
    ]


def _noise(generation: Txt2Img, checkpoint: Checkpoint, index: int) -> tuple[Noise, str, int]:
    """The noise of one image on the checkpoint's device, and what else it can be drawn from."""
    assert generation.width is not None
    assert generation.height is not None
    sides = (generation.height // checkpoint.downscale, generation.width // checkpoint.downscale)
    source, seed = generation.noise_source, generation.seed + index
    draw = image_noise(source, seed, (checkpoint.latent_channels, *sides))
    device = checkpoint.placement.device
    return lambda: draw().to(device), source, seed


class _Progress:
    """Steps of one batch: the batch is as far as its slowest image."""

    def __init__(self, run: Run, preview: Preview, sigmas: list[float], batch: int) -> None:
        self._run = run
        self._preview = preview
        self._sigmas = sigmas
        self._per_batch = run.generation.steps
        self._before = batch * self._per_batch
        self._done = [0] * run.generation.batch_size
        self._told = 0

    def __call__(self, position: int, denoised: Tensor, sigma: float | None) -> None:
        done = 1.0 if sigma is None else steps_done(self._sigmas, sigma) / (len(self._sigmas) - 1)
        self._done[position] = max(self._done[position], int(done * self._per_batch + 1e-6))
        step = min(self._done)
        if step <= self._told:
            return
        self._told = step
        preview = self._preview.jpeg(denoised) if self._run.preview_due() else None
        steps = self._run.generation.batch_count * self._per_batch
        self._run.tell(StepTaken(self._before + step, steps, preview))


def _finish(
    run: Run, studio: Studio, loaded: Loaded, label: Label, latents: Tensor, index: int
) -> ImageReady:
    seed = run.generation.seed + index
    text = label(seed)
    with studio.decoding:
        image = decode(loaded.checkpoint, latents)
    return ImageReady(index, to_png(image, text), seed, text, image.width, image.height)
