"""Tensors as a safetensors file, copied in blocks from where they lie in the old file."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Literal

from cloudbrush.conversion.pickles import TensorPart
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import DTYPE_BYTES, MAX_HEADER, MAX_TENSORS, METADATA

BLOCK = 2**23  # bytes written at once
SWELL = (
    2  # the new file may be this many times as large as the old one: tensors may share what is stored once
)
_FORMATS: Mapping[int, Literal["B", "H", "I", "Q"]] = {
    1: "B",
    2: "H",
    4: "I",
    8: "Q",
}  # by bytes of an element


def header_of(tensors: Mapping[str, TensorPart], metadata: Mapping[str, str]) -> bytes:
    """The header, its length before it, for tensors one after the other; raises `ModelFileError`."""
    if len(tensors) > MAX_TENSORS or METADATA in tensors:
        raise ModelFileError(f"it holds {len(tensors)} tensors; {MAX_TENSORS} are allowed")
    told: dict[str, object] = {METADATA: metadata} if metadata else {}
    position = 0
    for name, part in tensors.items():
        end = position + length(part)
        told[name] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": (position, end)}
        position = end
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ModelFileError(f"its tensors' names take {len(text)} bytes; {MAX_HEADER} are allowed")
    return len(text).to_bytes(8, "little") + text


def in_order(tensors: Mapping[str, TensorPart]) -> dict[str, TensorPart]:
    """The tensors as they are to follow each other, those of wide elements first, so that all are aligned."""
    names = sorted(tensors, key=lambda name: (-DTYPE_BYTES[tensors[name].dtype], name))
    return {name: tensors[name] for name in names}


def length(part: TensorPart) -> int:
    """Bytes a tensor takes."""
    return math.prod(part.shape) * DTYPE_BYTES[part.dtype]


def write(
    tensors: Mapping[str, TensorPart],
    metadata: Mapping[str, str],
    data: mmap.mmap,
    places: Mapping[str, tuple[int, int]],
    put: Callable[[memoryview | bytes], None],
) -> None:
    """Hand the new file to `put`, block by block; raises `ModelFileError` for what is too much."""
    tensors = in_order(tensors)
    header = header_of(tensors, metadata)
    if sum(map(length, tensors.values())) > SWELL * len(data) + BLOCK:
        raise ModelFileError(f"its tensors would take more than {SWELL} times the space of the file")
    stored = {name: _place(part, places) for name, part in tensors.items()}
    put(header)
    with memoryview(data) as view:
        for name, part in tensors.items():
            with view[slice(*stored[name])] as numbers:
                for block in _blocks(part, numbers):
                    put(block)


def _place(part: TensorPart, places: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Where the storage a tensor sees begins and ends in the old file."""
    storage, size = part.storage, DTYPE_BYTES[part.dtype]
    base, _ = places[storage.key]
    start = base + storage.offset * DTYPE_BYTES[storage.dtype]
    end = start + storage.count * DTYPE_BYTES[storage.dtype]
    if math.prod(part.shape):
        reach = sum((count - 1) * step for count, step in zip(part.shape, part.stride, strict=True))
        if start + (part.offset + reach + 1) * size > end:
            raise ModelFileError("a tensor of it reaches behind the end of its storage")
    return start, end


def _blocks(part: TensorPart, numbers: memoryview) -> Iterator[memoryview | bytes]:
    """The bytes of a tensor in order."""
    size, total = DTYPE_BYTES[part.dtype], length(part)
    start = part.offset * size
    if _is_contiguous(part):
        for at in range(start, start + total, BLOCK):
            yield numbers[at : min(at + BLOCK, start + total)]
    elif total:
        yield _gathered(part, numbers[start : start + (len(numbers) - start) // size * size], size)


def _is_contiguous(part: TensorPart) -> bool:
    expected = 1
    for count, step in zip(reversed(part.shape), reversed(part.stride), strict=True):
        if count != 1 and step != expected:
            return False
        expected *= count
    return True


def _gathered(part: TensorPart, numbers: memoryview, size: int) -> bytes:
    """The elements brought into order; the longest axis is copied at once, the others are gone along."""
    given, made = numbers.cast(_FORMATS[size]), bytearray(length(part))
    target = memoryview(made).cast(_FORMATS[size])
    dense = [math.prod(part.shape[axis + 1 :]) for axis in range(len(part.shape))]
    longest = max(range(len(part.shape)), key=part.shape.__getitem__)
    others = [axis for axis in range(len(part.shape)) if axis != longest]
    count, step, across = part.shape[longest], part.stride[longest], dense[longest]
    for place in product(*(range(part.shape[axis]) for axis in others)):
        old = sum(at * part.stride[axis] for at, axis in zip(place, others, strict=True))
        new = sum(at * dense[axis] for at, axis in zip(place, others, strict=True))
        if step:
            target[new : new + (count - 1) * across + 1 : across] = given[
                old : old + (count - 1) * step + 1 : step
            ]
        else:
            for at in range(count):
                target[new + at * across] = given[old]
    return bytes(made)
