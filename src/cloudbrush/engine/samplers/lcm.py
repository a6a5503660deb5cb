"""Sampling of latent consistency models."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling
from cloudbrush.engine.sigmas import ModelSigmas

GRID = 50  # timesteps the distillation knew
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


def lcm(x: Tensor, sigmas: list[float], noise: Noise, options: Options) -> Sampling:
    """Luo et al. 2023 (arXiv 2310.04378), multistep: denoise all the way, then noise for the next level."""
    for sigma, sigma_next in pairwise(sigmas):
        x = yield x, sigma
        if sigma_next > 0:
            x = x + noise() * (options.noise_scale * sigma_next)
    return x


def distilled(model: ModelSigmas) -> ModelSigmas:
    """The noise levels the distillation knew: those of the timesteps 19, 39, ... 999."""
    stride = len(model.sigmas) // GRID
    return ModelSigmas(model.sigmas[stride - 1 :: stride], model.sdxl)


def distilled_timestep(sigma: float, model: ModelSigmas) -> int:
    """The timestep of the known noise level nearest to a sigma, in ln sigma."""
    stride = len(model.sigmas) // GRID
    return round(distilled(model).timestep(sigma)) * stride + stride - 1


def consistent_sampling(sampling: Sampling, timestep: Callable[[float], float]) -> Sampling:
    """A sampling whose predictions go through the consistency function on their way back."""
    x, sigma = next(sampling)
    while True:
        denoised = yield x, sigma
        try:
            x, sigma = sampling.send(consistent(x, denoised, timestep(sigma)))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def consistent(x: Tensor, denoised: Tensor, timestep: float) -> Tensor:
    """The consistency function: a boundary condition that leaves clean images alone (ibid., appendix)."""
    scaled = timestep * TIMESTEP_SCALING
    skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    out = scaled / math.sqrt(scaled**2 + SIGMA_DATA**2)
    return out * denoised + skip * x
