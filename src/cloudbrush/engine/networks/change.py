"""The change of one layer's weights by one unit: which kind it is, its scale, DoRA's decomposition.

Specification 4.1; W' = W + multiplier · ΔW.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from cloudbrush.engine.networks import direct, low_rank, orthogonal
from cloudbrush.engine.networks.unit import Unit

Formula = Callable[[Unit, Tensor, int | None], Tensor]


@dataclass(frozen=True)
class Kind:
    """A way to write a weight change."""

    name: str
    needs: tuple[frozenset[str], ...]  # parts; one of the sets must be there whole
    formula: Formula
    rank: tuple[str, ...] = ()  # parts whose first axis is the rank; the first one present counts
    bias: str | None = None  # the part that changes the layer's bias
    scaled: bool = True  # whether `scale` and `alpha` are a factor

    def fits(self, parts: Collection[str]) -> bool:
        """Whether a unit with these parts is of this kind."""
        return any(needed.issubset(parts) for needed in self.needs)


def _one(*parts: str) -> tuple[frozenset[str], ...]:
    return (frozenset(parts),)


_LOKR = tuple(
    frozenset((*one, *two))
    for one, two in product(
        (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b")), (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    )
)
KINDS = (  # the first that fits decides
    Kind("LoRA", _one("lora_up", "lora_down"), low_rank.lora, rank=("lora_down",)),
    Kind(
        "LoHa",
        _one("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        low_rank.loha,
        rank=("hada_w1_b",),
    ),
    Kind("IA3", _one("weight", "on_input"), direct.ia3),
    Kind("LoKr", _LOKR, low_rank.lokr, rank=("lokr_w2_b", "lokr_w1_b")),
    Kind("Full", _one("diff"), direct.full, bias="diff_b"),
    Kind("Norm", _one("w_norm"), direct.norm, bias="b_norm"),
    Kind("GLoRA", _one("a1", "a2", "b1", "b2"), low_rank.glora),  # the WebUI gives it no rank, so no alpha
    Kind("OFT", (frozenset({"oft_blocks"}), frozenset({"oft_diag"})), orthogonal.oft, scaled=False),
)
COMMON = frozenset({"alpha", "scale", "weight", "bias", "rescale", "dora_scale", "magnitude"})


def kind_of(parts: Collection[str]) -> Kind | None:
    """The kind a unit with these parts is of."""
    return next((kind for kind in KINDS if kind.fits(parts)), None)


def weight_change(kind: Kind, unit: Unit, weight: Tensor, dyn: int | None = None) -> Tensor:
    """ΔW at multiplier 1, in W's shape; unit and weight on one device, in one precision.

    Raises `RuntimeError` or `ValueError` where shapes do not fit.
    """
    change = kind.formula(unit, weight, dyn)
    if "bias" in unit:  # LyCORIS: what the factors could not express
        change = change + unit["bias"].reshape(weight.shape)
    if kind.scaled:
        change = change * _scale(kind, unit)
    if "dora_scale" in unit or "magnitude" in unit:
        change = _decomposed(unit, weight, change)
    return change


def bias_change(kind: Kind, unit: Unit) -> Tensor | None:
    """The change of the layer's bias at multiplier 1; alpha is no factor of it."""
    return unit[kind.bias].flatten() if kind.bias and kind.bias in unit else None


def _scale(kind: Kind, unit: Unit) -> float:
    if "scale" in unit.numbers:
        return unit.numbers["scale"]
    rank = next((unit[part].shape[0] for part in kind.rank if part in unit), None)
    return unit.numbers["alpha"] / rank if rank and "alpha" in unit.numbers else 1.0


def _decomposed(unit: Unit, weight: Tensor, change: Tensor) -> Tensor:
    """ΔW such that W + ΔW has the learned magnitudes m: (W + change) · m / ‖·‖ − W. DoRA, arXiv 2402.09353.

    kohya's and LyCORIS' m is one number per input, its norm goes over all other axes of W + change. An m per
    output comes with ‖W‖ in a `dora_scale`, as Forge reads it, and with ‖W + change‖ from PEFT.
    """
    merged = weight + change
    outputs = weight.shape[0]
    if "magnitude" in unit:
        magnitude, measured, axis = unit["magnitude"].flatten(), merged, 0
    elif unit["dora_scale"].shape[:1] == (outputs,):
        magnitude, measured, axis = unit["dora_scale"].flatten(), weight, 0
    else:
        magnitude, measured, axis = unit["dora_scale"].flatten(), merged, 1
    others = [dimension for dimension in range(weight.ndim) if dimension != axis]
    norm = torch.linalg.vector_norm(measured, dim=others, keepdim=True)
    factor = torch.where(norm > 0, magnitude.reshape(norm.shape) / norm, torch.ones_like(norm))
    return merged * factor - weight
