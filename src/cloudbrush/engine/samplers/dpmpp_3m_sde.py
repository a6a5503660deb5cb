"""DPM-Solver++(3M) for the diffusion SDE."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.brownian import Brownian
from cloudbrush.engine.samplers.base import Options, Sampling


def dpmpp_3m_sde(x: Tensor, sigmas: list[float], noise: Brownian, options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2211.01095), third order from the two steps before (k-diffusion)."""
    past: list[tuple[Tensor, float]] = []  # denoised and step size h in lambda = -ln sigma, newest first
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        whole = h * (1 + options.eta)
        x = math.exp(-whole) * x - math.expm1(-whole) * denoised
        x = x + _correction(denoised, past, h, whole)
        if options.eta:
            up = sigma_next * math.sqrt(-math.expm1(-2 * h * options.eta))
            x = x + noise(sigma, sigma_next) * (options.noise_scale * up)
        past = [(denoised, h), *past[:1]]
    return x


def _correction(denoised: Tensor, past: list[tuple[Tensor, float]], h: float, whole: float) -> Tensor | float:
    """The terms of second and third order, by divided differences of what was denoised before."""
    if not past:
        return 0.0
    phi_2 = math.expm1(-whole) / whole + 1
    first, h_1 = past[0]
    newest = (denoised - first) * (h / h_1)
    if len(past) == 1:
        return phi_2 * newest
    second, h_2 = past[1]
    r_0, r_1 = h_1 / h, h_2 / h
    older = (first - second) / r_1
    bend = (newest - older) / (r_0 + r_1)
    phi_3 = phi_2 / whole - 0.5
    return phi_2 * (newest + bend * r_0) - phi_3 * bend
