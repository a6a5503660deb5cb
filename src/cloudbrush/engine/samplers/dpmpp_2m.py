"""DPM-Solver++(2M)."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling


def dpmpp_2m(x: Tensor, sigmas: list[float], _noise: Noise, _options: Options) -> Sampling:
    """Lu et al. 2022 (arXiv 2211.01095), algorithm 2; deterministic, first and last step of first order."""
    previous: tuple[Tensor, float] | None = None  # denoised and step size h in lambda = -ln sigma
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        target = denoised
        if previous is not None:
            ratio = previous[1] / h
            target = (1 + 1 / (2 * ratio)) * denoised - (1 / (2 * ratio)) * previous[0]
        x = (sigma_next / sigma) * x - math.expm1(-h) * target
        previous = denoised, h
    return x
