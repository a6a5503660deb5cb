"""The families of checkpoints: which text encoders they have, what is read from them, and their constants.

Specification 2.4 (texts), 3.2 (latents), 4.4 (names in files).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cloudbrush.domain import tokens


class Component(StrEnum):
    """The module of a checkpoint that a layer belongs to; the values are diffusers' words."""

    UNET = "unet"
    TEXT = "text_encoder"
    TEXT_2 = "text_encoder_2"


@dataclass(frozen=True)
class TextPart:
    """One text encoder of a family: where it stands in files, and what the denoiser gets of it."""

    component: Component
    prefixes: tuple[str, ...]  # of its names in single files; the first that fits counts
    open_clip: bool = False  # named and shaped as OpenCLIP does it, with exact GELU
    dropped: int = 0  # last layers in single files that nobody reads
    published: int | None = None  # layers of the encoder as published; files may come without the unread ones
    layer: int | None = None  # whose output is read, 1 for the last; None: as clip skip says
    normed: bool = False  # whether the final norm comes after it
    pooled: bool = False  # whether the text as a whole is read too, through a projection
    padding: int = tokens.END  # token behind the end of the text

    @property
    def folder(self) -> str:
        """Where a diffusers folder has it."""
        return self.component.value


@dataclass(frozen=True)
class Family:
    """Checkpoints that are built alike."""

    name: str
    title: str
    texts: tuple[TextPart, ...]
    latent_scale: float = 0.18215  # latents the denoiser sees per latents the autoencoder gives
    heads: int | None = None  # of the denoiser's attention; None: one per 64 channels
    scored: bool = False  # whether the denoiser is told an aesthetic score in place of a target size

    @property
    def sized(self) -> bool:
        """Whether the denoiser is told the image's size, and the text as a whole."""
        return any(text.pooled for text in self.texts)

    def numbers(self, size: tuple[int, int], *, negative: bool) -> tuple[float, ...]:
        """What the denoiser is told about an image of (width, height) pixels; () where it is told nothing.

        SDXL (Podell et al. 2023): original height and width, crop, and target size or score.
        """
        if not self.sized:
            return ()
        width, height = size
        original = (float(height), float(width), 0.0, 0.0)
        if self.scored:
            return (*original, LOW_SCORE if negative else HIGH_SCORE)
        return (*original, float(height), float(width))


HIGH_SCORE, LOW_SCORE = 6.0, 2.5  # aesthetic scores of prompt and negative prompt, as the WebUI presets them

_CLIP = "transformer.text_model."
_OLD_CLIP = "transformer."  # as written before transformers 4.31
_SD1_TEXT = TextPart(
    Component.TEXT, (f"cond_stage_model.{_CLIP}", f"cond_stage_model.{_OLD_CLIP}"), normed=True
)
_SD2_TEXT = TextPart(
    Component.TEXT,
    ("cond_stage_model.model.", "conditioner.embedders.0.model."),
    open_clip=True,
    dropped=1,
    published=24,
    layer=1,
    normed=True,
    padding=0,
)
_SDXL_TEXT = TextPart(
    Component.TEXT, (f"conditioner.embedders.0.{_CLIP}", f"conditioner.embedders.0.{_OLD_CLIP}"), layer=2
)


def _big_text(number: int) -> TextPart:
    """OpenCLIP bigG as SDXL reads it, at that place among a file's encoders."""
    prefix = f"conditioner.embedders.{number}.model."
    return TextPart(Component.TEXT_2, (prefix,), open_clip=True, layer=2, pooled=True, padding=0)


FAMILIES = {
    family.name: family
    for family in (
        Family("sd1", "Stable Diffusion 1", (_SD1_TEXT,), heads=8),
        Family("sd2", "Stable Diffusion 2", (_SD2_TEXT,)),
        Family("sdxl", "SDXL", (_SDXL_TEXT, _big_text(1)), latent_scale=0.13025),
        Family("sdxl-refiner", "the SDXL refiner", (_big_text(0),), latent_scale=0.13025, scored=True),
    )
}
