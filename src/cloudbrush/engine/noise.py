"""Random numbers of an image: one source each, so that an image never depends on its neighbours (3.1).

NV imitates CUDA's generator in software, so the same seed gives the same image on every machine; GPU is
CUDA's generator itself, which some machines have, and whose numbers for large images differ between cards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed

# The image's next tensor of standard normal numbers, float32, where its source made it.
Noise = Callable[[], Tensor]

_NEARLY_EQUAL = 0.9995  # mean cosine
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_TO_UNIT = np.float32(2.0**-32)
_TO_CIRCLE = np.float32(2.0**-32 * 2 * np.pi)


@dataclass(frozen=True)
class Variation:
    """How far an image's first noise leans towards that of another seed."""

    seed: int
    strength: float  # 0: not at all, 1: all the way


def image_noise(
    source: str,
    seed: int,
    shape: tuple[int, ...],
    *,
    variation: Variation | None = None,
    resized_from: tuple[int, int] | None = None,
    seed_delta: int = 0,
) -> Noise:
    """The noise of one image, from the source of that name (NV, CPU, GPU); shape: (channels, height, width).

    `variation` and `resized_from` (height, width in latents) make the first tensor resemble that of another
    seed and of another size; `seed_delta` (ENSD) is added to the seed for all later ones. Raises
    `GenerationFailed` where there is no such source.
    """
    draw = _drawing(source, seed, shape)
    first = draw()
    if resized_from is not None and resized_from != shape[1:]:
        small = (shape[0], *resized_from)
        first = pasted(_varied(source, _drawing(source, seed, small)(), variation), first)
    else:
        first = _varied(source, first, variation)
    later = _drawing(source, seed + seed_delta, shape) if seed_delta else draw
    tensors = itertools.chain([first], iter(later, None))
    return lambda: next(tensors)


def _varied(source: str, noise: Tensor, variation: Variation | None) -> Tensor:
    if variation is None or not variation.strength:
        return noise
    other = _drawing(source, variation.seed, tuple(noise.shape))()
    return slerp(variation.strength, noise, other)


def slerp(share: float, one: Tensor, other: Tensor) -> Tensor:
    """Between two tensors along a great circle, column by column (over dimension 1 of three).

    For tensors that point the same way the WebUI goes straight, and the wrong way round; so do we.
    """
    cosine: Tensor = (one / one.norm(dim=1, keepdim=True) * (other / other.norm(dim=1, keepdim=True))).sum(1)
    if cosine.mean() > _NEARLY_EQUAL:
        return one * share + other * (1 - share)
    angle = cosine.acos()
    first, second = ((part * angle).sin() / angle.sin() for part in (1 - share, share))
    return first.unsqueeze(1) * one + second.unsqueeze(1) * other


def pasted(small: Tensor, large: Tensor) -> Tensor:
    """`large` with `small` in its middle, cropped where it is larger; (channels, height, width) both."""
    result = large.clone()
    into: list[slice] = [slice(None)]
    out_of: list[slice] = [slice(None)]
    for inner, outer in zip(small.shape[1:], large.shape[1:], strict=True):
        offset = (outer - inner) // 2
        length = inner + 2 * min(offset, 0)
        into.append(slice(max(offset, 0), max(offset, 0) + length))
        out_of.append(slice(max(-offset, 0), max(-offset, 0) + length))
    result[tuple(into)] = small[tuple(out_of)]
    return result


def _drawing(source: str, seed: int, shape: tuple[int, ...]) -> Noise:
    return _SOURCES[source](seed, shape)


def cpu_noise(seed: int, shape: tuple[int, ...]) -> Noise:
    """Torch's CPU generator (Mersenne Twister)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, device="cpu")


def gpu_noise(seed: int, shape: tuple[int, ...]) -> Noise:
    """CUDA's own generator; raises `GenerationFailed` where there is none."""
    if not torch.cuda.is_available():
        raise GenerationFailed(
            "noise of the source GPU needs an NVIDIA GPU, which this worker has not",
            field="noise_source",
            hint="Choose NV, which gives a GPU's numbers on any machine, or an endpoint with a GPU.",
        )
    generator = torch.Generator("cuda").manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, device="cuda")


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


_SOURCES: dict[str, Callable[[int, tuple[int, ...]], Noise]] = {
    "NV": nv_noise,
    "CPU": cpu_noise,
    "GPU": gpu_noise,
}
