"""Denoising diffusion implicit models, plain and CFG++.

Timestep samplers count in integer timesteps of the model and keep x as the model sees it, divided by
sqrt(sigma^2 + 1); alpha_bar = 1 / (sigma^2 + 1).
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, PairSampling, Sampling, slope
from cloudbrush.engine.sigmas import ModelSigmas


def ddim_timesteps(steps: int, model: ModelSigmas) -> list[int]:
    """Every n-th timestep, ascending, one later than even; may be one more than asked for."""
    count = len(model.sigmas)
    return [min(timestep + 1, count - 1) for timestep in range(0, count, max(1, count // steps))]


def ddim(x: Tensor, timesteps: list[int], model: ModelSigmas, noise: Noise, options: Options) -> Sampling:
    """Song et al. 2020 (arXiv 2010.02502), equation 12; ends at the lowest timestep, not at 0."""
    for timestep, following in pairwise(reversed(timesteps)):
        sigma, sigma_next = model.sigmas[timestep], model.sigmas[following]
        scaled = x * math.sqrt(sigma**2 + 1)
        denoised = yield scaled, sigma
        eps = slope(scaled, sigma, denoised)
        x = implicit_step(denoised, eps, sigma, sigma_next, noise, options.eta_ddim)
    return x


def ddim_cfgpp(
    x: Tensor, timesteps: list[int], model: ModelSigmas, noise: Noise, options: Options
) -> PairSampling:
    """Chung et al. 2024 (arXiv 2406.08070): the way on follows the prediction without guidance."""
    for timestep, following in pairwise(reversed(timesteps)):
        sigma, sigma_next = model.sigmas[timestep], model.sigmas[following]
        scaled = x * math.sqrt(sigma**2 + 1)
        denoised, negative = yield scaled, sigma
        eps = slope(scaled, sigma, negative)
        x = implicit_step(denoised, eps, sigma, sigma_next, noise, options.eta_ddim)
    return x


def implicit_step(
    denoised: Tensor, eps: Tensor, sigma: float, sigma_next: float, noise: Noise, eta: float
) -> Tensor:
    """x at the next noise level, from the clean image, the noise towards it and a share of new noise."""
    bar, bar_next = 1 / (sigma**2 + 1), 1 / (sigma_next**2 + 1)
    fresh = eta * math.sqrt((1 - bar_next) / (1 - bar) * (1 - bar / bar_next))
    x = denoised * math.sqrt(bar_next) + eps * math.sqrt(1 - bar_next - fresh**2)
    return x + noise() * fresh if eta else x
