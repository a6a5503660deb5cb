"""The engine's words: what it is given to paint with, and what it says while painting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudbrush.domain.errors import CloudbrushError, GenerationFailed


@dataclass(frozen=True)
class ModelFile:
    """A model on this machine: a `.safetensors` file or a diffusers folder."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Models:
    """All models one generation needs."""

    checkpoint: ModelFile
    vae: ModelFile | None = None  # None: the checkpoint's own
    loras: tuple[ModelFile, ...] = ()  # by the names the prompt's tags use
    hypernetworks: tuple[ModelFile, ...] = ()
    embeddings: tuple[ModelFile, ...] = ()  # those whose name occurs in the prompts, as a word or not
    checkpoints: tuple[ModelFile, ...] = ()  # hires fix's and the refiner's, by name
    upscalers: tuple[ModelFile, ...] = ()  # by name
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # id -> image file, that img2img begins with


@dataclass(frozen=True)
class StepTaken:
    """A sampling step is done, counted from 1 over all batches and passes of the run."""

    step: int
    steps: int
    preview: bytes | None = None  # small JPEG


@dataclass(frozen=True)
class ImageReady:
    """An image is final; its PNG holds the infotext."""

    index: int
    png: bytes
    seed: int
    infotext: str
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Done:
    """All images of the run were delivered."""

    seconds: dict[str, float]  # wall time by stage: load, encode, denoise, decode; hires fix: upscale


@dataclass(frozen=True)
class Broke:
    """The run ended early; no further images come."""

    error: CloudbrushError


class Cancelled(GenerationFailed):
    """The run was called off."""

    code = "cancelled"


EngineEvent = StepTaken | ImageReady | Done | Broke
OnEvent = Callable[[EngineEvent], None]
