"""DPM-Solver++(2S) with ancestral noise."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, ancestral_split, slope


def dpmpp_2s_ancestral(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2211.01095), algorithm 1, past the next noise level, and noise back up to it."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        down, up = ancestral_split(sigma, sigma_next, options.eta)
        if down == 0:
            x = x + slope(x, sigma, denoised) * (down - sigma)
        else:
            middle = math.sqrt(sigma * down)
            half_way = (middle / sigma) * x + (1 - middle / sigma) * denoised
            denoised = yield half_way, middle
            x = (down / sigma) * x + (1 - down / sigma) * denoised
        if sigma_next > 0:
            x = x + noise() * (options.noise_scale * up)
    return x
