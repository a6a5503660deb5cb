"""Euler's method with churn."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, churned, slope


def euler(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Karras et al. 2022, algorithm 2, Euler steps."""
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma = churned(x, sigma, len(sigmas) - 1, noise, options)
        denoised = yield x, sigma
        x = x + slope(x, sigma, denoised) * (sigma_next - sigma)
    return x
