"""What a run paints with, in memory while it lasts: checkpoints, networks, upscaler."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.generation import Generation, HiresFix, Txt2Img
from cloudbrush.domain.upscaling import BUILTIN_UPSCALERS
from cloudbrush.engine.batching import Batcher
from cloudbrush.engine.conditioning import TextEncoding
from cloudbrush.engine.denoiser import Denoiser
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.extras import Extras
from cloudbrush.engine.hires import Enlarge
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.preview import Preview
from cloudbrush.engine.runs import Run
from cloudbrush.engine.shelf import Autoencoder, Shelf, named


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
    decoding: threading.Lock  # one encode or decode at a time, for the sake of memory


@dataclass(frozen=True, eq=False)
class Materials:
    """Everything one run holds; those of the hires pass are the same unless it names others."""

    base: Loaded
    hires: Loaded
    refiner: Loaded | None
    extras: Extras
    hires_extras: Extras
    upscaler: str | Enlarge


@contextmanager
def gathered(run: Run, studio: Studio) -> Iterator[Materials]:
    """What a run asks for, in memory while the context lasts.

    Raises `UnknownModel` for a name that is not among the run's files, `InvalidInput` for a tag that cannot
    be read, and `ModelFileError`.
    """
    generation, shelf = run.generation, studio.shelf
    hires = hires_of(generation)
    with ExitStack() as held:
        checkpoint = partial(_checkpoint, run, studio, held)
        base = checkpoint(run.models.checkpoint)
        extras = held.enter_context(shelf.extras(generation.prompt, run.models))
        _check_places(base, extras)
        refiner = None
        if asked := generation.refiner:
            refiner = checkpoint(_other_checkpoint(run, asked.checkpoint, "refiner.checkpoint"))
        second, second_extras = base, extras
        if hires and hires.checkpoint:
            second = checkpoint(_other_checkpoint(run, hires.checkpoint, "hires.checkpoint"))
        if hires and hires.prompt:
            second_extras = held.enter_context(shelf.extras(hires.prompt, run.models, "hires.prompt"))
            _check_places(second, second_extras, "hires.prompt")
        upscaler = _upscaler(run, studio, held, hires) if hires else ""
        yield Materials(base, second, refiner, extras, second_extras, upscaler)


def hires_of(generation: Generation) -> HiresFix | None:
    """Hires fix, where the generation has it."""
    return generation.hires if isinstance(generation, Txt2Img) else None


def _checkpoint(run: Run, studio: Studio, held: ExitStack, file: ModelFile) -> Loaded:
    loaded = held.enter_context(studio.models.using(file))
    if run.generation.vae is None:
        return loaded
    vae = named(run.generation.vae, [run.models.vae] if run.models.vae else [], "VAE", "vae")
    return loaded.decoding_by(held.enter_context(studio.shelf.autoencoder(vae, loaded.checkpoint)))


def _other_checkpoint(run: Run, name: str, field: str) -> ModelFile:
    return named(name, (run.models.checkpoint, *run.models.checkpoints), "checkpoint", field)


def _upscaler(run: Run, studio: Studio, held: ExitStack, hires: HiresFix) -> str | Enlarge:
    if hires.upscaler in BUILTIN_UPSCALERS:
        return hires.upscaler
    file = named(hires.upscaler, run.models.upscalers, "upscaler", "hires.upscaler")
    return partial(held.enter_context(studio.shelf.upscaler(file)), check=run.check)


def _check_places(loaded: Loaded, extras: Extras, field: str = "prompt") -> None:
    """Raise `ModelFileError` for a network that would change nothing, whatever its strength."""
    for network in (wanted.network for wanted in extras.loras):
        if not (loaded.denoiser.has_place_for(network) or loaded.texts.has_place_for(network)):
            raise ModelFileError(
                f"no layer of the LoRA {network.name!r} is one of the checkpoint's",
                field=field,
                hint="It was made for another family of checkpoints.",
            )
