"""What a file's header tells about its modules: counts, widths, and what metadata say beside the shapes."""

from __future__ import annotations

import re

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header

MAX_SIDE = 2**17  # of a weight; vocabularies have 49408 words


def count(header: Header, pattern: str) -> int:
    """How many of the tensors numbered from 0 there are."""
    number = 0
    while pattern.format(number) in header:
        number += 1
    return number


def plane(header: Header, key: str) -> tuple[int, int]:
    """The first two sides of a tensor; raises `ModelFileError` when it has fewer, or impossible ones."""
    shape = header.shape(key)
    if len(shape) < 2:
        raise ModelFileError(f"{key} has the shape {shape}; one with two sides or more was expected")
    if not all(1 <= side <= MAX_SIDE for side in shape[:2]):
        raise ModelFileError(f"{key} has the shape {shape}; sides of 1 to {MAX_SIDE} were expected")
    return shape[0], shape[1]


def metadata_number(header: Header, name: str, default: int) -> int:
    """The number that the metadata give under `cloudbrush.`; raises `ModelFileError` when it is none."""
    text = header.metadata.get(f"cloudbrush.{name}", str(default))
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ModelFileError(f"the file's metadata gives {text[:20]!r} for cloudbrush.{name}")
    return int(text)


def check_divides(what: str, number: int, *widths: int) -> None:
    """Raise `ModelFileError` unless the number divides all widths."""
    for width in widths:
        if width % number:
            raise ModelFileError(
                f"{number} {what} do not divide a width of {width}",
                hint="Files of unusual width say their own numbers in their metadata (cloudbrush.*).",
            )
