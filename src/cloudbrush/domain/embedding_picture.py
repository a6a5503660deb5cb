"""Textual inversions that travel inside pictures (specification 4.2).

Either in the text chunk `sd-ti-embedding`, as base64 of JSON, or drawn: bars left and right of the picture
hold, four bits per channel, the halves of compressed JSON, disguised by a fixed stream of numbers.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, UnidentifiedImageError

from cloudbrush.domain.errors import ModelFileError

SUFFIXES = (".png", ".webp", ".avif")
TEXT_CHUNK = "sd-ti-embedding"
MAX_PIXELS = 2**24
MAX_JSON = 2**25  # bytes; 75 vectors of 2048 numbers of 20 digits take 3 MB
MAX_NAME = 100  # characters
_FORMATS = ("PNG", "WEBP", "AVIF")


@dataclass(frozen=True)
class PictureContent:
    """What a picture carries: vectors, as lists of numbers, and a name of its own if it has one."""

    vectors: Any  # as the JSON has them: unchecked
    name: str | None


def is_picture(start: bytes) -> bool:
    """Whether a file that starts so is a PNG, WebP or AVIF picture; twelve bytes are enough."""
    return start[:4] == b"\x89PNG" or (start[:4], start[8:12]) == (b"RIFF", b"WEBP") or start[4:8] == b"ftyp"


def read(path: Path) -> PictureContent:
    """The embedding in a picture; raises `ModelFileError` when it carries none, or a broken one."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ModelFileError(
                    f"the picture has {image.width}x{image.height} pixels, which is too many"
                )
            text = {**image.info, **getattr(image, "text", {})}.get(TEXT_CHUNK)
            packed = base64.b64decode(text, validate=True) if text else _unzipped(_drawn(image))
        return _content(json.loads(packed))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ModelFileError(f"the picture {path.name!r} cannot be read; it may be damaged") from error
    except (binascii.Error, ValueError, TypeError, RecursionError, zlib.error) as error:
        raise ModelFileError(f"the picture {path.name!r} carries no embedding that can be read") from error


def _content(content: Any) -> PictureContent:
    params = content.get("string_to_param") if isinstance(content, dict) else None
    if not isinstance(params, dict) or len(params) != 1:
        raise ModelFileError("the picture's data are no embedding: one set of vectors was expected")
    (numbers,) = params.values()
    if isinstance(numbers, dict):
        numbers = numbers.get("TORCHTENSOR")
    name = content.get("name")
    sayable = isinstance(name, str) and name.isprintable() and 1 <= len(name) <= MAX_NAME
    return PictureContent(numbers, name if sayable else None)


def _drawn(image: Image.Image) -> bytes:
    """The bytes drawn into the bars; the picture is parted from each by a black column."""
    image = image.convert("RGB")
    red, green, blue = image.split()
    lit = ImageChops.darker(ImageChops.darker(red, green), blue).getbbox()  # where no channel is dark
    if lit is None:
        raise ValueError("all black")
    inner = image.crop(lit).point(lambda value: value & 0x0F)
    red, green, blue = inner.split()
    columns = ImageChops.lighter(ImageChops.lighter(red, green), blue).transpose(Image.Transpose.TRANSPOSE)
    numbers, height = columns.tobytes(), inner.height
    black = [
        column for column in range(inner.width) if not any(numbers[column * height : (column + 1) * height])
    ]
    if len(black) < 2:
        raise ValueError("no bars")
    low = inner.crop((0, 0, black[0], height)).tobytes()
    high = inner.crop((black[-1] + 1, 0, inner.width, height)).tobytes()
    if len(low) != len(high) or not low:
        raise ValueError("the bars differ in size")
    halves = zip(low, high, islice(_stream(), len(low)), strict=True)
    return bytes((more ^ mask) << 4 | (less ^ mask) for less, more, mask in halves)


def _stream() -> Iterator[int]:
    """Four bits at a time, of Numerical Recipes' linear congruential generator, modulo 255."""
    state = 0
    while True:
        state = (1664525 * state + 1013904223) % 2**32
        yield state % 255 & 0x0F


def _unzipped(packed: bytes) -> bytes:
    unpacked = zlib.decompressobj().decompress(packed, MAX_JSON)  # what follows the end is padding
    if len(unpacked) == MAX_JSON:
        raise ValueError("too much")
    return unpacked
