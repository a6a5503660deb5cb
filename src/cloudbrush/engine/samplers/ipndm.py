"""Improved pseudo numerical methods."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope

# Adams-Bashforth with even steps, newest slope first.
EVEN_WEIGHTS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def ipndm(x: Tensor, sigmas: list[float], _noise: Noise, _options: Options) -> Sampling:
    """Zhang & Chen 2023 (arXiv 2204.13902): even-step weights whatever the steps are."""
    slopes: list[Tensor] = []
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        slopes = [slope(x, sigma, denoised), *slopes[:3]]
        for weight, past in zip(EVEN_WEIGHTS[len(slopes) - 1], slopes, strict=True):
            x = x + past * (weight * (sigma_next - sigma))
    return x


def ipndm_v(x: Tensor, sigmas: list[float], _noise: Noise, _options: Options) -> Sampling:
    """The same with weights for the steps as they are, in the authors' own form."""
    slopes: list[Tensor] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        slopes = [slope(x, sigma, denoised), *slopes[:3]]
        lengths = [sigmas[step - back + 1] - sigmas[step - back] for back in range(len(slopes))]
        x = x + _mean_slope(slopes, lengths) * (sigma_next - sigma)
    return x


def _mean_slope(slopes: list[Tensor], lengths: list[float]) -> Tensor:
    """The slope over a step, from past slopes and the lengths of their steps, newest first.

    Not quite Adams-Bashforth: a bracket of the third order and a ratio of the fourth are the authors' slips,
    which every implementation shares and the same image needs.
    """
    d, h = slopes, lengths
    mean = d[0]
    if len(d) > 1:
        newest = d[0] - d[1]
        mean = mean + newest * (h[0] / h[1] / 2)
    if len(d) > 2:
        two = h[0] + h[1]
        stretch = h[0] * two / (h[1] * (h[1] + h[2]))
        bend = newest - (d[1] - d[2]) * (h[1] / h[2])
        mean = mean + bend * ((1 - h[0] / (3 * two) * stretch) / 2)
    if len(d) > 3:
        three = two + h[2]
        weight = (1 - h[0] / (3 * two)) / 2 + (1 - h[0] / (2 * two)) * h[0] / (6 * three)
        weight = weight * stretch * three / (h[1] + h[2] + h[3])
        ratio = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
        twist = d[2] * (1 + h[2] / h[3]) - d[1] - d[3] * (h[1] / h[2])
        mean = mean + (bend + twist * ratio) * weight
    return mean
