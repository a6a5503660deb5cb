"""Euler's method with ancestral noise."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, ancestral_split, slope


def euler_ancestral(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Euler steps past the next noise level, and noise back up to it (k-diffusion's "Euler a")."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        down, up = ancestral_split(sigma, sigma_next, options.eta)
        x = x + slope(x, sigma, denoised) * (down - sigma)
        if sigma_next > 0:
            x = x + noise() * (options.noise_scale * up)
    return x
