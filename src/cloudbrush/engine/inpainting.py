"""Masks: what part of a picture is painted, how it is filled before, and how the rest comes back after.

The order of things, and each rounding, is that of the WebUI's inpainting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter1d  # type: ignore[import-untyped]
from torch import Tensor

from cloudbrush.domain.generation import Inpainting
from cloudbrush.engine.pictures import Box, Resize, cropped, filled, just_resized

# Blurs that fill what is masked, from far to near: radius in pixels, times laid over each other.
_FILLING = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))


@dataclass(frozen=True, eq=False)
class Overlay:
    """What was not to be painted, to be laid over the painted image."""

    picture: Image.Image  # RGBA, transparent where painted
    region: Box | None = None  # where the painted image belongs; None: it is the whole

    def over(self, painted: Image.Image) -> Image.Image:
        """The finished image, as large as the overlay; where that is opaque, equal to it."""
        if self.region is not None:
            left, top, right, bottom = self.region
            whole = Image.new("RGBA", self.picture.size)
            whole.paste(cropped(painted, right - left, bottom - top), (left, top))
            painted = whole
        image = painted.convert("RGBA")
        image.alpha_composite(self.picture)
        return image.convert("RGB")


@dataclass(frozen=True, eq=False)
class Painting:
    """A picture and its mask at the size in which they are painted."""

    picture: Image.Image  # RGB
    mask: Image.Image  # L, white where to paint
    overlay: Overlay


def prepare(
    picture: Image.Image, mask: Image.Image, how: Inpainting, size: tuple[int, int], resize: Resize
) -> Painting | None:
    """Picture and mask as they are painted at (width, height) pixels.

    None when only the masked part is wanted and there is none: the WebUI then paints the whole picture.
    """
    if mask.size != picture.size:
        mask = just_resized(mask, *picture.size)
    if how.inverted:
        mask = ImageOps.invert(mask)
    mask = blurred(mask, how.blur)
    if how.only_masked:
        box = mask.getbbox()
        return None if box is None else _part(picture, mask, _region(box, how.padding, size, mask.size), size)
    mask = resize(mask, *size)
    picture = resize(picture, *size)
    opened = np.clip(np.asarray(mask, np.uint16) * 2, 0, 255).astype(np.uint8)
    return Painting(picture, mask, Overlay(_without(picture, Image.fromarray(opened))))


def _part(picture: Image.Image, mask: Image.Image, region: Box, size: tuple[int, int]) -> Painting:
    """A region of the picture, painted at full size."""
    overlay = Overlay(_without(picture, mask), region)
    return Painting(filled(picture.crop(region), *size), filled(mask.crop(region), *size), overlay)


def blurred(mask: Image.Image, sigma: int) -> Image.Image:
    """A mask under a Gaussian of that standard deviation in pixels, rounded after each direction."""
    if not sigma:
        return mask
    radius = int(2.5 * sigma + 0.5)
    pixels = np.asarray(mask, np.float32)
    for axis in (1, 0):
        pixels = gaussian_filter1d(pixels, sigma, axis=axis, mode="mirror", radius=radius).round()
    return Image.fromarray(pixels.astype(np.uint8))


def _region(box: Box, padding: int, size: tuple[int, int], limits: tuple[int, int]) -> Box:
    """The box with its padding, made as wide or as high as the painted size asks, within the picture."""
    sides = [
        (max(low - padding, 0), min(high + padding, limit))
        for low, high, limit in zip(box[:2], box[2:], limits, strict=True)
    ]
    (left, right), (top, bottom) = sides
    aspect = size[0] / size[1]
    if (right - left) / (bottom - top) > aspect:
        top, bottom = _stretched(top, bottom, (right - left) / aspect, limits[1])
    else:
        left, right = _stretched(left, right, (bottom - top) * aspect, limits[0])
    return left, top, right, bottom


def _stretched(low: int, high: int, wanted: float, limit: int) -> tuple[int, int]:
    """A range of the wanted length round another, moved inwards and if need be cut at 0 and `limit`."""
    missing = int(wanted - (high - low))
    low, high = low - missing // 2, high + missing - missing // 2
    beyond = max(0, high - limit)
    low, high = low - beyond, high - beyond
    below = max(0, -low)
    return low + below, min(high + below, limit)


def _without(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture, transparent where the mask is white."""
    result = Image.new("RGBa", picture.size)
    result.paste(picture.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    return result.convert("RGBA")


def with_blurred_filling(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with what is masked filled by colours from around it (the WebUI's "fill")."""
    result = Image.new("RGBA", picture.size)
    rest = _without(picture, mask).convert("RGBa")
    for radius, times in _FILLING:
        layer = rest.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            result.alpha_composite(layer)
    return result.convert("RGB")


def at_latents(mask: Image.Image, height: int, width: int) -> Tensor:
    """(height, width): 1 for latents that are painted, 0 for those that stay."""
    small = mask.resize((width, height), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(small)).float() / 255).round()


def as_number(mask: Image.Image) -> Tensor:
    """(height, width) in pixels: 1 where to paint, 0 elsewhere."""
    return (torch.from_numpy(np.array(mask)).float() / 255).round()
