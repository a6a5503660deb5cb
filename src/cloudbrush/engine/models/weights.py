"""Weights from safetensors files into modules, each name and shape checked before memory is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header, read_header

Shape = tuple[int, ...]

STORED_AS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_NAMED = 3  # tensors named in a message


@dataclass(frozen=True)
class Source:
    """Where a module's weight stands in a file, if not alone and as it is."""

    name: str
    third: int | None = None  # of three stacked along the first side of the tensor: which
    transposed: bool = False

    def shape(self, own: Shape) -> Shape:
        """The tensor's shape in the file."""
        if self.third is not None:
            return (3 * own[0], *own[1:])
        return own[::-1] if self.transposed else own

    def read(self, file: Any, own: Shape) -> Tensor:
        """The weight, in its own shape."""
        if self.third is not None:
            part: Tensor = file.get_slice(self.name)[self.third * own[0] : (self.third + 1) * own[0]]
            return part
        tensor: Tensor = file.get_tensor(self.name)
        return tensor.T if self.transposed else tensor.reshape(own)


Names = Mapping[str, str | Source]  # name in the module -> where in the file


def header_of(path: Path) -> Header:
    """The header of the file at `path`; raises `ModelFileError`."""
    with readable(path), path.open("rb") as file:
        return read_header(file)


def expected_shapes(module: nn.Module, names: Names) -> dict[str, Shape]:
    """Name in the file -> shape of every weight of a module."""
    weights = module.state_dict()
    sources = {own: _source(theirs) for own, theirs in names.items()}
    return {source.name: source.shape(tuple(weights[own].shape)) for own, source in sources.items()}


def _source(theirs: str | Source) -> Source:
    return theirs if isinstance(theirs, Source) else Source(theirs)


def check(header: Header, expected: Mapping[str, Shape], extra: list[str], what: str) -> None:
    """Raise `ModelFileError` unless the header has all `expected`, in their shapes, and `extra` is empty."""
    if missing := [key for key in expected if key not in header]:
        raise ModelFileError(
            f"{_some(missing)} missing from {what}", hint="The file is incomplete, or of another kind."
        )
    if extra:
        raise ModelFileError(f"{_some(extra)} not known in {what}", hint="The file may be of another kind.")
    for key, shape in expected.items():
        tensor = header.tensors[key]
        if as_linear(tensor.shape) != as_linear(shape):
            raise ModelFileError(f"{key} has the shape {tensor.shape}; expected was {shape}")
        if tensor.dtype not in STORED_AS:
            raise ModelFileError(f"{key} is stored as {tensor.dtype}; {', '.join(STORED_AS)} can be read")


def load(path: Path, module: nn.Module, names: Names, device: torch.device, dtype: torch.dtype) -> None:
    """Make copies of a file's weights the module's own, so that nothing hangs on the file afterwards."""
    wanted = module.state_dict()
    with readable(path), safe_open(path, framework="pt", device="cpu") as file:
        weights = {
            own: _source(theirs).read(file, tuple(wanted[own].shape)).to(device, dtype, copy=True)
            for own, theirs in names.items()
        }
    module.load_state_dict(weights, assign=True)


def as_linear(shape: Shape) -> Shape:
    """A 1x1 convolution's shape as that of the linear layer it equals."""
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Failures to read the file become `ModelFileError`."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error  # OSError's own text tells the path
        raise ModelFileError(f"the file {path.name!r} cannot be read: {why}") from error


def _some(names: list[str]) -> str:
    named = ", ".join(name[:100] for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"tensors {named}{more} are" if len(names) > 1 else f"the tensor {named} is"
