"""Weight changes that rotate a layer's outputs: ΔW = R W − W with R orthogonal, in blocks.

OFT, arXiv 2306.07280; BOFT, arXiv 2311.06243.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cloudbrush.engine.networks.unit import Unit

_TINY = 1e-8  # keeps the clamp's quotient finite for Q = 0


def oft(unit: Unit, weight: Tensor, dyn: int | None) -> Tensor:
    """Rotations of blocks of outputs: `oft_diag` (blocks, b, b) gives them as they are.

    `oft_blocks` gives Q by Q − Qᵀ: (blocks, b, b), or for the butterflies of BOFT (levels, blocks, b, b);
    `alpha` times the outputs is the largest norm Q may have, 0 or none leaves it free.
    """
    if "oft_diag" in unit:
        turned = _turn(unit["oft_diag"], weight)
    else:
        limit = unit.numbers.get("alpha", 0.0) * weight.shape[0]
        rotations = _cayley(unit["oft_blocks"], limit)
        turned = _butterfly(rotations, weight) if rotations.ndim == 4 else _turn(rotations, weight)
    if "rescale" in unit:
        turned = turned * unit["rescale"].reshape(-1, *[1] * (weight.ndim - 1))
    return (turned - weight).reshape(weight.shape)


def _cayley(blocks: Tensor, limit: float) -> Tensor:
    """(I + Q)(I − Q)⁻¹ for the skew-symmetric Q = blocks − blocksᵀ, shrunk to norm `limit` where longer."""
    skew = blocks - blocks.transpose(-1, -2)
    if limit:
        length = skew.norm()
        skew = skew * ((length.clamp(max=limit) + _TINY) / (length + _TINY))
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    inverse: Tensor = torch.linalg.inv(eye - skew)
    return (eye + skew) @ inverse


def _turn(rotations: Tensor, weight: Tensor) -> Tensor:
    """Each block of outputs through its rotation: out'_m = Σ_n R_nm out_n."""
    count, size = rotations.shape[:2]
    blocks = weight.reshape(count, size, -1)
    return torch.einsum("knm,knj->kmj", rotations, blocks).reshape(weight.shape)


def _butterfly(rotations: Tensor, weight: Tensor) -> Tensor:
    """Levels of rotations, each of pairs of outputs twice as far apart as in the level before."""
    _, count, size, _ = rotations.shape
    outputs = weight.shape[0]
    turned = weight.reshape(outputs, -1)
    for level, rotation in enumerate(rotations):
        apart = 2**level * (size // 2)
        mixed = turned.reshape(-1, 2, apart, turned.shape[1]).transpose(1, 2).reshape(count, size, -1)
        mixed = torch.einsum("kij,kjn->kin", rotation, mixed)
        turned = mixed.reshape(-1, apart, 2, turned.shape[1]).transpose(1, 2).reshape(outputs, -1)
    return turned.reshape(weight.shape)
