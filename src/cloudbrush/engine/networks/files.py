"""Tensors of network files, checked before memory is taken and independent of the file afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header, inspect
from cloudbrush.engine.models.weights import STORED_AS, readable


def tensors(path: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of these names, copied to the CPU; raises `ModelFileError` when the file cannot be read."""
    with readable(path), safe_open(path, framework="pt", device="cpu") as file:
        return {key: file.get_tensor(key).clone() for key in keys}


def check_stored(header: Header, keys: Iterable[str]) -> None:
    """Raise `ModelFileError` unless all these are stored in a floating-point type the engine reads."""
    for key in keys:
        dtype = header.tensors[key].dtype
        if dtype not in STORED_AS:
            raise ModelFileError(f"{key} is stored as {dtype}; {', '.join(STORED_AS)} can be read")


def check_number(header: Header, key: str) -> None:
    """Raise `ModelFileError` unless this is a single number."""
    shape = header.tensors[key].shape
    if math.prod(shape) != 1:
        raise ModelFileError(f"{key} has the shape {shape}; one number was expected")


def number(key: str, tensor: Tensor) -> float:
    """The number in a tensor of one; raises `ModelFileError` for infinity and not-a-number."""
    value = float(tensor)
    if not math.isfinite(value):
        raise ModelFileError(f"{key} is {value}, which is no number")
    return value


def wrong_kind(header: Header, expected: str, field: str) -> ModelFileError:
    """The refusal of a file by what it is."""
    return ModelFileError(f"this is {inspect(header).kind.phrase}; {expected} was expected", field=field)


def chosen(names: Mapping[str, str], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """name -> tensor, for names that stand for keys of a file."""
    return {name: found[key] for name, key in names.items()}
