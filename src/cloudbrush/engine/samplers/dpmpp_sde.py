"""DPM-Solver++ for the diffusion SDE, single step."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.brownian import Brownian
from cloudbrush.engine.samplers.base import Options, Sampling, ancestral_split, slope


def dpmpp_sde(x: Tensor, sigmas: list[float], noise: Brownian, options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2211.01095) with Brownian noise (k-diffusion), the midpoint in ln sigma."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return x + slope(x, sigma, denoised) * (sigma_next - sigma)
        middle = math.sqrt(sigma * sigma_next)
        half_way = _stage(x, denoised, sigma, middle, noise, options)
        at_middle = yield half_way, middle
        x = _stage(x, at_middle, sigma, sigma_next, noise, options)
    return x


def _stage(
    x: Tensor, denoised: Tensor, sigma: float, target: float, noise: Brownian, options: Options
) -> Tensor:
    down, up = ancestral_split(sigma, target, options.eta)
    x = (down / sigma) * x + (1 - down / sigma) * denoised
    return x + noise(sigma, target) * (options.noise_scale * up)
