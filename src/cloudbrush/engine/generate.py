"""A run, in running order: load, encode, sample, enlarge and sample again, decode, PNG."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cloudbrush.domain import infotext
from cloudbrush.domain.generation import Img2Img
from cloudbrush.engine.decoding import decode, to_png
from cloudbrush.engine.encoding import encode, to_pixels
from cloudbrush.engine.events import Done, ImageReady
from cloudbrush.engine.hires import LATENT_MODES, Target, enlarged_image, enlarged_latents
from cloudbrush.engine.img2img import Beginning, Canvas
from cloudbrush.engine.materials import Loaded, Materials, Studio, gathered, hires_of
from cloudbrush.engine.passes import Pass, Progress, Sitting, start_batch
from cloudbrush.engine.planning import Planner, size_of
from cloudbrush.engine.runs import Run

Label = Callable[[int], str]  # number of an image -> its infotext
Painted = tuple[Tensor, Loaded]  # final latents of a pass, and the checkpoint that painted them last


def generate(run: Run, studio: Studio) -> None:
    """Paint all images of a run, telling each as it is ready, and then `Done`."""
    generation = run.generation
    with ExitStack() as held:
        with run.stage("load"):
            materials = held.enter_context(gathered(run, studio))
        with run.stage("encode"):
            work = _planned(run, studio, materials)
        sampling = work.begin(0)
        for batch in range(generation.batch_count):
            with run.stage("denoise"):
                painted = [sitting.finished() for sitting in sampling]
            if work.enlarging:
                with run.stage("upscale"):
                    sampling = work.enlarging.begin(batch, painted)
                with run.stage("denoise"):
                    painted = [sitting.finished() for sitting in sampling]
            if batch + 1 < generation.batch_count:  # the denoiser need not wait for the decoding
                sampling = work.begin(batch + 1)
            for index, latents in enumerate(painted, start=batch * generation.batch_size):
                with run.stage("decode"):
                    ready = work.image(index, *latents)
                run.tell(ready)
    run.tell(Done(dict(run.seconds)))


@dataclass(frozen=True, eq=False)
class _Work:
    """A run with everything planned and encoded."""

    run: Run
    studio: Studio
    first: Pass
    canvas: Canvas | None
    enlarging: _Enlarging | None
    progress: Progress
    label: Label

    def begin(self, batch: int) -> list[Sitting]:
        """Begin to sample a batch."""
        size = self.run.generation.batch_size
        numbers = range(batch * size, (batch + 1) * size)
        beginnings = [self.canvas.beginning(number) if self.canvas else Beginning() for number in numbers]
        return start_batch(self.first, self.studio, numbers[0], beginnings, self.progress.of(0, batch))

    def image(self, index: int, latents: Tensor, by: Loaded) -> ImageReady:
        """A finished image."""
        with self.studio.decoding:
            image = decode(by.checkpoint, latents)
        if self.canvas:
            image = self.canvas.finished(image)
        text = self.label(index)
        seed, _ = self.run.generation.seeds(index)
        return ImageReady(index, to_png(image, text), seed, text, image.width, image.height)


@dataclass(frozen=True, eq=False)
class _Enlarging:
    """Hires fix: the first pass's images made larger, and painted over."""

    run: Run
    studio: Studio
    materials: Materials
    target: Target
    second: Pass
    progress: Progress

    def begin(self, batch: int, painted: list[Painted]) -> list[Sitting]:
        """Begin to sample a batch again, larger."""
        first = batch * len(painted)
        beginnings = [
            Beginning(self.target.cut(self._enlarged(number, *latents)))
            for number, latents in enumerate(painted, start=first)
        ]
        return start_batch(self.second, self.studio, first, beginnings, self.progress.of(1, batch))

    def _enlarged(self, index: int, latents: Tensor, by: Loaded) -> Tensor:
        self.run.check()
        upscaler, onto = self.materials.upscaler, self.materials.hires.checkpoint
        if isinstance(upscaler, str) and upscaler in LATENT_MODES:
            return enlarged_latents(latents, upscaler, self.target, onto.downscale)
        with self.studio.decoding:
            image = enlarged_image(decode(by.checkpoint, latents), upscaler, self.target)
            seed, _ = self.run.generation.seeds(index)
            return encode(onto, to_pixels(image)).sample(seed)


def _planned(run: Run, studio: Studio, materials: Materials) -> _Work:
    planner = Planner(run, materials)
    passes: list[Pass] = [planner.first()]
    hires = hires_of(run.generation)
    enlarging = None
    if hires:
        target = Target.of(*size_of(run.generation), hires, materials.hires.checkpoint.downscale)
        passes.append(planner.second(hires, target))
    progress = Progress(run, tuple(passes))
    if hires:
        enlarging = _Enlarging(run, studio, materials, target, passes[1], progress)
    label = partial(_infotext, run, materials, planner)
    return _Work(run, studio, passes[0], _canvas(run, studio, materials), enlarging, progress, label)


def _canvas(run: Run, studio: Studio, materials: Materials) -> Canvas | None:
    if not isinstance(run.generation, Img2Img):
        return None
    with studio.decoding:
        return Canvas.of(run.generation, run.models.pictures, materials.base.checkpoint)


def _infotext(run: Run, materials: Materials, planner: Planner, index: int) -> str:
    vae = run.models.vae if run.generation.vae is not None else None
    networks = [wanted.network for wanted in (*materials.extras.loras, *materials.hires_extras.loras)]
    hashes = infotext.Hashes(
        vae=vae.sha256 if vae else "",
        loras={network.name: network.shorthash for network in networks},
        embeddings={embedding.name: embedding.shorthash for embedding in planner.embeddings},
        checkpoints={file.name: file.sha256 for file in (run.models.checkpoint, *run.models.checkpoints)},
    )
    seed, variation_seed = run.generation.seeds(index)
    return infotext.write(
        run.generation,
        seed=seed,
        variation_seed=variation_seed,
        model_hash=run.models.checkpoint.sha256,
        others=hashes,
    )
