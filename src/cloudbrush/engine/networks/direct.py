"""Weight changes given directly: scalings and differences. W: (out, in) or (out, in, k, k), or (width,)."""

from __future__ import annotations

from torch import Tensor

from cloudbrush.engine.networks.unit import Unit


def ia3(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """W ∘ w with one number per output of the layer, or per input where `on_input` says so.

    (IA)³, arXiv 2205.05638.
    """
    numbers = unit["weight"].flatten()
    axis = 1 if unit.numbers["on_input"] else 0
    shape = [1] * weight.ndim
    shape[axis] = weight.shape[axis]
    return weight * numbers.reshape(shape)


def full(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """The difference itself; its bias, if any, is the part `diff_b`."""
    return unit["diff"].reshape(weight.shape)


def norm(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """The difference of a normalisation's weights; that of its bias is the part `b_norm`."""
    return unit["w_norm"].reshape(weight.shape)
