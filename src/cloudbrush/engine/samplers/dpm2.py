"""DPM-Solver-2's midpoint method, plain with churn and ancestral."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, ancestral_split, churned, slope


def dpm2(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2206.00927), second order, with the churn of Karras et al. 2022."""
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma = churned(x, sigma, len(sigmas) - 1, noise, options)
        denoised = yield x, sigma
        here = slope(x, sigma, denoised)
        if sigma_next == 0:
            return x + here * (sigma_next - sigma)
        middle = math.sqrt(sigma * sigma_next)
        half_way = x + here * (middle - sigma)
        denoised = yield half_way, middle
        x = x + slope(half_way, middle, denoised) * (sigma_next - sigma)
    return x


def dpm2_ancestral(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """The midpoint method past the next noise level, and noise back up to it."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        down, up = ancestral_split(sigma, sigma_next, options.eta)
        here = slope(x, sigma, denoised)
        if down == 0:
            x = x + here * (down - sigma)
        else:
            middle = math.sqrt(sigma * down)
            half_way = x + here * (middle - sigma)
            denoised = yield half_way, middle
            x = x + slope(half_way, middle, denoised) * (down - sigma)
            x = x + noise() * (options.noise_scale * up)
    return x
