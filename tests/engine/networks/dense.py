"""Weights and their changes in float64, for formulas written out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cloudbrush.engine.networks.change import kind_of, weight_change
from cloudbrush.engine.networks.unit import Unit

OUT, IN, RANK, K = 12, 8, 3, 3


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng((*shape, seed)).standard_normal(shape))


LINEAR = rand(OUT, IN, seed=9)
CONV = rand(OUT, IN, K, K, seed=9)


def change(weight: Tensor, dyn: int | None = None, /, **parts: Tensor | float) -> Tensor:
    unit = Unit(
        "layer",
        {name: part for name, part in parts.items() if isinstance(part, Tensor)},
        {name: part for name, part in parts.items() if not isinstance(part, Tensor)},
    )
    kind = kind_of(parts)
    assert kind is not None
    return weight_change(kind, unit, weight, dyn)


def equal(ours: Tensor, dense: np.ndarray | Tensor) -> None:
    torch.testing.assert_close(ours, torch.as_tensor(dense), rtol=1e-10, atol=1e-10)
