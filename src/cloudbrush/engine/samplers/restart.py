"""Restart sampling."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope
from cloudbrush.engine.schedules import karras_between

FEWEST_STEPS = 20  # below this nothing is restarted
RESTART_AT, RESTART_FROM = 0.1, 2.0  # sigmas, or the schedule's nearest ones


def restart(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Xu et al. 2023 (arXiv 2306.14878): Heun steps that go back up to sigma 2 from time to time."""
    last = None
    for sigma, sigma_next in _steps(sigmas):
        if last is not None and last < sigma:
            x = x + noise() * (options.noise_scale * math.sqrt(sigma**2 - last**2))
        denoised = yield x, sigma
        here = slope(x, sigma, denoised)
        ahead = x + here * (sigma_next - sigma)
        if sigma_next > 0:
            denoised = yield ahead, sigma_next
            x = x + (here + slope(ahead, sigma_next, denoised)) / 2 * (sigma_next - sigma)
        else:
            x = ahead
        last = sigma_next
    return x


def _steps(sigmas: list[float]) -> list[tuple[float, float]]:
    """The schedule's steps, with those of the restarts after the sigma where they begin."""
    steps = len(sigmas) - 1
    if steps < FEWEST_STEPS:
        return list(pairwise(sigmas))
    length, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    base = karras_between(steps - length * times, sigmas[-2], sigmas[0])
    low, high = _nearest(base, RESTART_AT), _nearest(base, RESTART_FROM)
    result = list(pairwise(base))
    if high < low:
        segment = list(pairwise(karras_between(length + 1, base[low], base[high])[:-1]))
        result[low:low] = segment * times
    return result


def _nearest(sigmas: list[float], wanted: float) -> int:
    return min(range(len(sigmas)), key=lambda index: abs(sigmas[index] - wanted))
