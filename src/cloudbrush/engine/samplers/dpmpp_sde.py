"""DPM-Solver++ for the diffusion SDE, single step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from cloudbrush.engine.brownian import Brownian
from cloudbrush.engine.samplers.base import Options, Sampling, ancestral_split, slope


def dpmpp_sde(x: Tensor, sigmas: list[float], noise: Brownian, options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2211.01095) with Brownian noise (k-diffusion), the midpoint in ln sigma."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return x + slope(x, sigma, denoised) * (sigma_next - sigma)
        start, middle, end = _through_logarithms(sigma, sigma_next)
        half_way = _stage(x, denoised, start, middle, noise, options)
        at_middle = yield half_way, middle
        x = _stage(x, at_middle, start, end, noise, options)
    return x


def _through_logarithms(sigma: float, sigma_next: float) -> tuple[float, float, float]:
    """Both sigmas and the one half way between, as float32 gives them back from their logarithms.

    That is where the WebUI asks its Brownian path, which is too rough to be asked beside it.
    """
    start, end = torch.tensor([sigma, sigma_next]).log()
    return start.exp().item(), (start + (end - start) * 0.5).exp().item(), end.exp().item()


def _stage(
    x: Tensor, denoised: Tensor, sigma: float, target: float, noise: Brownian, options: Options
) -> Tensor:
    down, up = ancestral_split(sigma, target, options.eta)
    x = (down / sigma) * x + (1 - down / sigma) * denoised
    return x + noise(sigma, target) * (options.noise_scale * up)
