"""Weight changes made of small factors. W: (out, in) or (out, in, k, k); r: the rank.

All results have W's shape and are before scale and multiplier. A shape that does not fit raises
`RuntimeError`, as torch does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cloudbrush.engine.networks.unit import Unit


def lora(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """up @ down; up (out, r), down (r, in[, k, k]). With mid (r, r, k, k): CP of a convolution.

    `dyn` keeps the first ranks only. LoRA, arXiv 2106.09685; convolutions: LyCORIS, arXiv 2309.14859.
    """
    up, down = unit["lora_up"].flatten(1), unit["lora_down"].flatten(1)
    if "lora_mid" in unit:
        return torch.einsum("nmkl,in,mj->ijkl", unit["lora_mid"], up, down).reshape(weight.shape)
    return (up[:, :dyn] @ down[:dyn]).reshape(weight.shape)


def loha(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """(w1_a w1_b) ∘ (w2_a w2_b), or with cores t1, t2 the product of two Tucker forms.

    FedPara, arXiv 2108.06098; LyCORIS, arXiv 2309.14859.
    """
    one = _product(unit, "hada_w1", "hada_t1", weight)
    two = _product(unit, "hada_w2", "hada_t2", weight)
    return one * two


def lokr(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """w1 ⊗ w2; either is given whole or as a product, w2 also with a core t2.

    w1: (out1, in1); w2: (out2, in2[, k, k]) with out1·out2 = out and in1·in2 = in. LyCORIS, arXiv 2309.14859.
    """
    one = unit["lokr_w1"] if "lokr_w1" in unit else unit["lokr_w1_a"] @ unit["lokr_w1_b"]
    if "lokr_w2" in unit:
        two = unit["lokr_w2"]
    elif "lokr_t2" in unit:
        two = _tucker(unit["lokr_t2"], unit["lokr_w2_a"], unit["lokr_w2_b"])
    else:
        two = unit["lokr_w2_a"] @ unit["lokr_w2_b"].flatten(1)
    if two.ndim == 4:
        one = one[:, :, None, None]
    return torch.kron(one, two.contiguous()).reshape(weight.shape)


def glora(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """b2 b1 + W a2 a1; a1, b1 (r, in), a2 (in, r), b2 (out, r). GLoRA, arXiv 2306.07967."""
    a1, a2, b1, b2 = (unit[part].flatten(1) for part in ("a1", "a2", "b1", "b2"))
    return (b2 @ b1 + weight.flatten(1) @ a2 @ a1).reshape(weight.shape)


def _product(unit: Unit, factors: str, core: str, weight: Tensor) -> Tensor:
    left, right = unit[f"{factors}_a"], unit[f"{factors}_b"]
    if core in unit:
        return _tucker(unit[core], left, right).reshape(weight.shape)
    return (left.flatten(1) @ right.flatten(1)).reshape(weight.shape)


def _tucker(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """core (r, r, k, k), left (r, out), right (r, in) -> (out, in, k, k)."""
    return torch.einsum("ijkl,ip,jq->pqkl", core, left, right)
