"""DPM-Solver++(2M) for the diffusion SDE."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.brownian import Brownian
from cloudbrush.engine.samplers.base import Options, Sampling


def dpmpp_2m_sde(x: Tensor, sigmas: list[float], noise: Brownian, options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2211.01095), second order from the step before, by the midpoint rule."""
    return _multistep(x, sigmas, noise, options, lambda h: -math.expm1(-h) / 2)


def dpmpp_2m_sde_heun(x: Tensor, sigmas: list[float], noise: Brownian, options: Options) -> Sampling:
    """The same, its second order by Heun's rule."""
    return _multistep(x, sigmas, noise, options, lambda h: math.expm1(-h) / h + 1)


def _multistep(
    x: Tensor,
    sigmas: list[float],
    noise: Brownian,
    options: Options,
    correction: Callable[[float], float],
) -> Sampling:
    previous: tuple[Tensor, float] | None = None  # denoised and step size h in lambda = -ln sigma
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        whole = h * (1 + options.eta)
        x = (sigma_next / sigma * math.exp(-h * options.eta)) * x - math.expm1(-whole) * denoised
        if previous is not None:
            x = x + (denoised - previous[0]) * (correction(whole) * h / previous[1])
        if options.eta:
            up = sigma_next * math.sqrt(-math.expm1(-2 * h * options.eta))
            x = x + noise(sigma, sigma_next) * (options.noise_scale * up)
        previous = denoised, h
    return x
