"""A unit: what a network file holds for one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

NUMBERS = ("alpha", "scale", "on_input")  # parts that are single numbers


@dataclass(frozen=True, eq=False)
class Unit:
    """The parts of one layer's change, under their LyCORIS names without `.weight`."""

    layer: str  # as the file spells it
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]

    def __contains__(self, part: str) -> bool:
        return part in self.tensors or part in self.numbers

    def __getitem__(self, part: str) -> Tensor:
        return self.tensors[part]

    def to(self, device: torch.device, dtype: torch.dtype) -> Unit:
        """The same unit with its tensors on a device, in a precision."""
        moved = {part: tensor.to(device, dtype) for part, tensor in self.tensors.items()}
        return Unit(self.layer, moved, self.numbers)
