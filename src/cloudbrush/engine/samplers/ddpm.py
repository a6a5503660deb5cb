"""Denoising diffusion probabilistic models' own sampler."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope


def ddpm(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Ho et al. 2020, algorithm 2, between any two noise levels; alpha_bar = 1 / (sigma^2 + 1)."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        bar, bar_next = 1 / (sigma**2 + 1), 1 / (sigma_next**2 + 1)
        alpha = bar / bar_next
        scaled = x * math.sqrt(bar)
        scaled = (scaled - slope(x, sigma, denoised) * ((1 - alpha) / math.sqrt(1 - bar))) / math.sqrt(alpha)
        if sigma_next > 0:
            spread = math.sqrt((1 - alpha) * (1 - bar_next) / (1 - bar))
            scaled = scaled + noise() * (options.noise_scale * spread)
        x = scaled / math.sqrt(bar_next)
    return x
