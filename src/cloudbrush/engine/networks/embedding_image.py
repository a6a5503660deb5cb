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

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.models.weights import readable

TEXT_CHUNK = "sd-ti-embedding"
MAX_PIXELS = 2**24
MAX_JSON = 2**25  # bytes; 75 vectors of 2048 numbers of 20 digits take 3 MB
_FORMATS = ("PNG", "WEBP", "AVIF")


@dataclass(frozen=True, eq=False)
class PictureContent:
    """What a picture carries: (n, width) float32 vectors, and a name of its own if it has one."""

    vectors: Tensor
    name: str | None


def is_picture(path: Path) -> bool:
    """Whether the file begins as a PNG, WebP or AVIF picture does."""
    with readable(path), path.open("rb") as file:
        start = file.read(12)
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
    return PictureContent(
        torch.tensor(numbers, dtype=torch.float32), name if isinstance(name, str) and name else None
    )


def _drawn(image: Image.Image) -> bytes:
    """The bytes drawn into the bars; the picture is parted from each by a black column."""
    raw = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    pixels = raw.reshape(image.height, image.width, 3)
    lit = (pixels > 0).all(2)
    rows, columns = (lit.any(axis).nonzero().flatten() for axis in (1, 0))
    if not len(rows):
        raise ValueError("all black")
    nibbles = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    black = (nibbles == 0).all(2).all(0).nonzero().flatten()
    if len(black) < 2:
        raise ValueError("no bars")
    low, high = nibbles[:, : black[0]].flatten(), nibbles[:, black[-1] + 1 :].flatten()
    if len(low) != len(high) or not len(low):
        raise ValueError("the bars differ in size")
    mask = torch.tensor(list(islice(_stream(), len(low))), dtype=torch.uint8)
    return bytes((((high ^ mask) << 4) | (low ^ mask)).tolist())


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
