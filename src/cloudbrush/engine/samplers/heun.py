"""Heun's method with churn."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, churned, slope


def heun(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Karras et al. 2022, algorithm 2; the last step is Euler's."""
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma = churned(x, sigma, len(sigmas) - 1, noise, options)
        denoised = yield x, sigma
        here = slope(x, sigma, denoised)
        step = sigma_next - sigma
        if sigma_next == 0:
            return x + here * step
        ahead = x + here * step
        denoised = yield ahead, sigma_next
        x = x + (here + slope(ahead, sigma_next, denoised)) / 2 * step
    return x
