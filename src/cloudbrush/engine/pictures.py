"""Pictures that people hand in: read whatever they are, brought to a size (specification 1.1)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.image_file import FORMATS, MAX_PIXELS

LANCZOS = Image.Resampling.LANCZOS
LEAST_SIDE = 8  # pixels; what one latent covers
_BACKGROUND = "#ffffff"  # behind what is transparent, as in the WebUI
_HALF = 128
_PLAIN = ("L", "RGB", "RGBA")

Resize = Callable[[Image.Image, int, int], Image.Image]


def read_picture(data: bytes) -> Image.Image:
    """The picture in an image file, as RGB on white; raises `InvalidInput`."""
    image = _read(data, "image")
    if image.mode == "RGBA":
        background = Image.new("RGBA", image.size, _BACKGROUND)
        background.paste(image, mask=image)
        image = background
    return image.convert("RGB")


def read_mask(data: bytes) -> Image.Image:
    """The mask in an image file, white where to paint: its alpha if it has any, else its brightness."""
    image = _read(data, "mask")
    if image.mode == "RGBA" and image.getextrema()[-1] != (255, 255):
        alpha = np.asarray(image.getchannel("A"))
        return Image.fromarray(np.where(alpha > _HALF, 255, 0).astype(np.uint8))
    return image.convert("L")


def _read(data: bytes, field: str) -> Image.Image:
    """The first picture of a file in 8 bits, turned as its EXIF says, grey, RGB or RGBA."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image, field)
            image.load()
            return _eight_bits(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise InvalidInput(
            "this is no image that can be read, or only part of one",
            field=field,
            hint="Use a PNG, JPEG or WebP file.",
        ) from error


def _check_size(image: Image.Image, field: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(
            f"the image has {image.width}x{image.height} pixels; {MAX_PIXELS // 10**6} million are allowed",
            field=field,
            hint="Make it smaller first.",
        )
    if min(image.size) < LEAST_SIDE:
        raise InvalidInput(
            f"the image has {image.width}x{image.height} pixels; {LEAST_SIDE} a side are the least",
            field=field,
        )


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in _PLAIN else image.convert("RGB")


def just_resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """Of that size, whatever becomes of its shape."""
    return image.resize((width, height), LANCZOS)


def cropped(image: Image.Image, width: int, height: int) -> Image.Image:
    """Of that size, cut off where it has another shape, centred."""
    wider = width * image.height > image.width * height  # than the image
    fitted_width = width if wider else image.width * height // image.height
    fitted_height = image.height * width // image.width if wider else height
    return _centred(just_resized(image, fitted_width, fitted_height), width, height)


def filled(image: Image.Image, width: int, height: int) -> Image.Image:
    """Of that size, all of it in the middle, its outermost pixels drawn out to the edges."""
    wider = width * image.height > image.width * height
    taller = width * image.height < image.width * height
    fitted_width = image.width * height // image.height if wider else width
    fitted_height = image.height * width // image.width if taller else height
    fitted = just_resized(image, max(1, fitted_width), max(1, fitted_height))
    result = _centred(fitted, width, height)
    left, top = width // 2 - fitted.width // 2, height // 2 - fitted.height // 2
    if taller and top > 0:
        _draw_out(result, fitted, (0, 0, width, top), (0, 0, fitted.width, 1))
        end, last = top + fitted.height, fitted.height - 1
        _draw_out(result, fitted, (0, end, width, height), (0, last, fitted.width, fitted.height))
    if wider and left > 0:
        _draw_out(result, fitted, (0, 0, left, height), (0, 0, 1, fitted.height))
        end, last = left + fitted.width, fitted.width - 1
        _draw_out(result, fitted, (end, 0, width, height), (last, 0, fitted.width, fitted.height))
    return result


RESIZES: dict[str, Resize] = {
    "Just resize": just_resized,
    "Crop and resize": cropped,
    "Resize and fill": filled,
    "Just resize (latent upscale)": just_resized,  # what becomes of masks and overlays there
}

Box = tuple[int, int, int, int]  # left, top, right, bottom


def _centred(image: Image.Image, width: int, height: int) -> Image.Image:
    result = Image.new(image.mode, (width, height))
    result.paste(image, (width // 2 - image.width // 2, height // 2 - image.height // 2))
    return result


def _draw_out(result: Image.Image, image: Image.Image, to: Box, line: Box) -> None:
    size = (to[2] - to[0], to[3] - to[1])
    if min(size) > 0:
        result.paste(image.crop(line).resize(size, Image.Resampling.NEAREST), to[:2])
