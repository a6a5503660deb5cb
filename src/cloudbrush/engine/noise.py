"""Random numbers of an image: one source each, so that an image never depends on its neighbours (3.1).

NV imitates CUDA's generator in software, so the same seed gives the same image on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Noise = Callable[[], Tensor]  # the image's next tensor of standard normal numbers, float32 on the CPU

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_TO_UNIT = np.float32(2.0**-32)
_TO_CIRCLE = np.float32(2.0**-32 * 2 * np.pi)


def image_noise(source: str, seed: int, shape: tuple[int, ...]) -> Noise:
    """The noise of one image, from the source of that name (NV or CPU)."""
    return nv_noise(seed, shape) if source == "NV" else cpu_noise(seed, shape)


def cpu_noise(seed: int, shape: tuple[int, ...]) -> Noise:
    """Torch's CPU generator (Mersenne Twister)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, device="cpu")


def nv_noise(seed: int, shape: tuple[int, ...]) -> Noise:
    """CUDA's numbers: Philox-4x32-10 (Salmon et al. 2011) and Box-Muller; one counter step per tensor."""
    drawn = 0

    def draw() -> Tensor:
        nonlocal drawn
        numbers = _philox_normal(seed, drawn, int(np.prod(shape)))
        drawn += 1
        return torch.from_numpy(numbers).reshape(shape)

    return draw


def _philox_normal(seed: int, draw: int, count: int) -> npt.NDArray[np.float32]:
    """`count` standard normal numbers: element i has the counter (draw, 0, i, 0) under the key `seed`."""
    words = [np.full(count, draw, np.uint64), np.zeros(count, np.uint64)]
    words += [np.arange(count, dtype=np.uint64), np.zeros(count, np.uint64)]
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        first, second = words[0] * _MULTIPLIERS[0], words[2] * _MULTIPLIERS[1]
        words = [
            (second >> _WORD) ^ words[1] ^ np.uint64(keys[0]),
            second & _LOW,
            (first >> _WORD) ^ words[3] ^ np.uint64(keys[1]),
            first & _LOW,
        ]
        keys = [(key + weyl) & 0xFFFFFFFF for key, weyl in zip(keys, _WEYL, strict=True)]
    radius = words[0].astype(np.uint32) * _TO_UNIT + _TO_UNIT / 2
    angle = words[1].astype(np.uint32) * _TO_CIRCLE + _TO_CIRCLE / 2
    numbers: npt.NDArray[np.float64] = np.sqrt(-2.0 * np.log(radius)) * np.sin(angle)
    return numbers.astype(np.float32)
