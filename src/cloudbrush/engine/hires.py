"""Hires fix: how large the second pass is, and the first pass's image made as large (specification 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import MIN_SIDE, HiresFix
from cloudbrush.engine.pictures import LANCZOS, just_resized

# By the name of the upscaler: mode of interpolation, and whether it is smoothed first.
LATENT_MODES = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
_PIXEL_STEP = 8
_MOST_TURNS = 3  # of a model over its own result

Enlarge = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Target:
    """The size a second pass aims at, and what is cut off its latents."""

    width: int  # pixels before cutting
    height: int
    cut_columns: int = 0  # latents
    cut_rows: int = 0

    @classmethod
    def of(cls, width: int, height: int, hires: HiresFix, downscale: int) -> Target:
        """The target for an image of a first pass; a single given side keeps the aspect, two are covered.

        Raises `GenerationFailed` where that leaves hardly anything.
        """
        target = cls._wanted(width, height, hires, downscale)
        if min(target.sides(downscale)) * downscale < MIN_SIDE:
            raise GenerationFailed(
                f"hires fix would end at {target.width}x{target.height} pixels;"
                f" {MIN_SIDE} a side are the least",
                field="hires.resize_width" if hires.resize_width else "hires.resize_height",
                hint="Choose a larger size.",
            )
        return target

    @classmethod
    def _wanted(cls, width: int, height: int, hires: HiresFix, downscale: int) -> Target:
        to_width, to_height = hires.resize_width, hires.resize_height
        if not to_width and not to_height:
            return cls(int(width * hires.scale), int(height * hires.scale))
        by_width = (to_width, to_width * height // width)
        by_height = (to_height * width // height, to_height)
        if not to_height:
            return cls(*by_width)
        if not to_width:
            return cls(*by_height)
        size = by_width if width / height < to_width / to_height else by_height
        return cls(*size, (size[0] - to_width) // downscale, (size[1] - to_height) // downscale)

    def sides(self, downscale: int) -> tuple[int, int]:
        """Height and width of the latents after cutting."""
        return self.height // downscale - self.cut_rows, self.width // downscale - self.cut_columns

    def cut(self, latents: Tensor) -> Tensor:
        """The middle of (channels, height, width) latents."""
        rows, columns = latents.shape[1:]
        top, left = self.cut_rows // 2, self.cut_columns // 2
        bottom, right = rows - (self.cut_rows + 1) // 2, columns - (self.cut_columns + 1) // 2
        return latents[:, top:bottom, left:right]


def enlarged_latents(latents: Tensor, upscaler: str, target: Target, downscale: int) -> Tensor:
    """(channels, height, width) latents at the target's size, by one of the latent modes."""
    mode, smooth = LATENT_MODES[upscaler]
    size = (target.height // downscale, target.width // downscale)
    with torch.inference_mode():
        return functional.interpolate(latents[None], size=size, mode=mode, antialias=smooth)[0]


def enlarged_image(image: Image.Image, upscaler: str | Enlarge, target: Target) -> Image.Image:
    """An image at the target's size, by a built-in way's name or with a model.

    As the WebUI does: to a multiple of 8 pixels first, with the model as often as it takes, at most 3 times,
    and Lanczos for the rest.
    """
    scale = max(target.width / image.width, target.height / image.height)
    if upscaler != "None" and scale > 1:
        image = _enlarged(image, _enlarging(upscaler, scale), scale)
    size = (target.width, target.height)
    return image if image.size == size else just_resized(image, *size)


def _enlarged(image: Image.Image, enlarge: Enlarge, scale: float) -> Image.Image:
    width, height = (int(side * scale // _PIXEL_STEP * _PIXEL_STEP) for side in image.size)
    for _ in range(_MOST_TURNS):
        before = image.size
        if image.width >= width and image.height >= height:
            break
        image = enlarge(image)
        if image.size == before:
            break
    return image if image.size == (width, height) else just_resized(image, width, height)


def _enlarging(upscaler: str | Enlarge, scale: float) -> Enlarge:
    if not isinstance(upscaler, str):
        return upscaler
    filtering = Image.Resampling.NEAREST if upscaler == "Nearest" else LANCZOS
    return lambda image: image.resize((int(image.width * scale), int(image.height * scale)), filtering)
