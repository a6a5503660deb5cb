"""Pseudo linear multistep sampling."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope
from cloudbrush.engine.samplers.ddim import implicit_step
from cloudbrush.engine.samplers.ipndm import EVEN_WEIGHTS
from cloudbrush.engine.sigmas import ModelSigmas


def plms(x: Tensor, timesteps: list[int], model: ModelSigmas, noise: Noise, _options: Options) -> Sampling:
    """Liu et al. 2022 (arXiv 2202.09778): Adams-Bashforth over eps; the first step looks ahead once."""
    past: list[Tensor] = []  # eps, newest first
    for timestep, following in pairwise(reversed(timesteps)):
        sigma, sigma_next = model.sigmas[timestep], model.sigmas[following]
        scaled = x * math.sqrt(sigma**2 + 1)
        denoised = yield scaled, sigma
        past = [slope(scaled, sigma, denoised), *past[:3]]
        if len(past) == 1:
            ahead = implicit_step(denoised, past[0], sigma, sigma_next, noise, 0.0)
            ahead = ahead * math.sqrt(sigma_next**2 + 1)
            denoised = yield ahead, sigma_next
            eps = (past[0] + slope(ahead, sigma_next, denoised)) / 2
        else:
            weights = EVEN_WEIGHTS[len(past) - 1]
            eps = past[0] * weights[0]
            for weight, older in zip(weights[1:], past[1:], strict=True):
                eps = eps + older * weight
        x = implicit_step(scaled - eps * sigma, eps, sigma, sigma_next, noise, 0.0)
    return x
