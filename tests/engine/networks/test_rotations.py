"""Rotations of a layer's outputs, OFT and BOFT, against dense float64 matrices."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.engine.networks.dense import CONV, IN, LINEAR, OUT, K, change, equal, rand


def block_diagonal(blocks: np.ndarray) -> np.ndarray:
    size = blocks.shape[-1]
    dense = np.zeros((len(blocks) * size,) * 2)
    for index, block in enumerate(blocks):
        dense[index * size :][:size, index * size :][:, :size] = block
    return dense


def rotations(blocks: Tensor, limit: float = np.inf) -> np.ndarray:
    skew = (blocks - blocks.transpose(-1, -2)).numpy()
    length = np.sqrt((skew**2).sum())
    skew = skew * min(length, limit) / length
    eye = np.eye(skew.shape[-1])
    return (eye + skew) @ np.linalg.inv(eye - skew)


def test_oft() -> None:
    blocks = rand(4, 3, 3)  # twelve outputs in four blocks
    turned = block_diagonal(rotations(blocks))
    equal(torch.from_numpy(turned @ turned.T), np.eye(OUT))
    equal(change(LINEAR, oft_blocks=blocks), turned.T @ LINEAR.numpy() - LINEAR.numpy())
    equal(change(LINEAR, oft_blocks=blocks, alpha=0.0), turned.T @ LINEAR.numpy() - LINEAR.numpy())
    flat = CONV.flatten(1).numpy()
    equal(change(CONV, oft_blocks=blocks), (turned.T @ flat - flat).reshape(CONV.shape))
    short = block_diagonal(rotations(blocks, limit=0.01 * OUT))
    torch.testing.assert_close(
        change(LINEAR, oft_blocks=blocks, alpha=0.01),
        torch.from_numpy(short.T @ LINEAR.numpy() - LINEAR.numpy()),
        rtol=1e-6, atol=1e-6,
    )  # fmt: skip
    given = rotations(blocks)
    rescale = rand(OUT, 1)
    equal(
        change(LINEAR, oft_diag=torch.from_numpy(given), rescale=rescale),
        np.diag(rescale[:, 0]) @ block_diagonal(given).T @ LINEAR.numpy() - LINEAR.numpy(),
    )


def test_boft() -> None:
    """Level i turns pairs of outputs 2^i · b/2 apart, gathered side by side and put back."""
    out, size, levels = 16, 4, 2
    blocks, weight = rand(levels, out // size, size, size), rand(out, IN)
    dense = np.eye(out)
    for level, turned in enumerate(rotations(blocks)):
        apart = 2**level * size // 2
        order = [
            start + half * apart + offset
            for start in range(0, out, 2 * apart)
            for offset in range(apart)
            for half in (0, 1)
        ]
        gather = np.eye(out)[order]
        dense = gather.T @ block_diagonal(turned) @ gather @ dense
    equal(change(weight, oft_blocks=blocks), dense @ weight.numpy() - weight.numpy())


def test_boft_of_convolutions_shrunk_and_rescaled() -> None:
    """alpha · outputs is the most that Q may be long; each output is scaled after the turns."""
    out, size = 16, 4
    blocks, weight, rescale = rand(1, out // size, size, size), rand(out, IN, K, K), rand(out, 1)
    turned = block_diagonal(rotations(blocks, limit=0.01 * out)[0])
    order = [
        start + half * 2 + offset for start in range(0, out, 4) for offset in range(2) for half in (0, 1)
    ]
    gather = np.eye(out)[order]
    dense = np.diag(rescale[:, 0]) @ gather.T @ turned @ gather @ weight.flatten(1).numpy()
    ours = change(weight, oft_blocks=blocks, alpha=0.01, rescale=rescale)
    torch.testing.assert_close(
        ours, torch.from_numpy(dense).reshape(weight.shape) - weight, rtol=1e-6, atol=1e-6
    )


def test_a_rescaled_rotation_of_convolutions() -> None:
    blocks, rescale = rand(4, 3, 3), rand(OUT, 1, 1, 1)
    flat = CONV.flatten(1).numpy()
    dense = np.diag(rescale.flatten()) @ block_diagonal(rotations(blocks)).T @ flat
    equal(change(CONV, oft_blocks=blocks, rescale=rescale), dense.reshape(CONV.shape) - CONV.numpy())
