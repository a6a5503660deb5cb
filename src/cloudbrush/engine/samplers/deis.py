"""Diffusion exponential integrator sampling."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope

ORDER = 3
POINTS = 10_000  # of the numerical integral
# The time in which slopes are extrapolated: that of a linear VP schedule between these noise levels.
SIGMA_MIN, SIGMA_MAX, FIRST_TIME = 0.002, 80.0, 1e-3


def deis(x: Tensor, sigmas: list[float], _noise: Noise, _options: Options) -> Sampling:
    """Zhang & Chen 2023 (arXiv 2204.13902), tAB-DEIS of third order; the last step is Euler's."""
    slopes: list[Tensor] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        slopes = [slope(x, sigma, denoised), *slopes[: ORDER - 1]]
        order = len(slopes) if sigma_next > 0 else 1
        weights = [sigma_next - sigma] if order == 1 else _weights(sigmas, step, order)
        for weight, past in zip(weights, slopes, strict=False):
            x = x + past * weight
    return x


_SLOPE = 2 * (math.log(SIGMA_MIN**2 + 1) / FIRST_TIME - math.log(SIGMA_MAX**2 + 1)) / (FIRST_TIME - 1)
_START = math.log(SIGMA_MAX**2 + 1) - 0.5 * _SLOPE


def _time(sigma: float) -> float:
    return (math.sqrt(_START**2 + 2 * _SLOPE * math.log(sigma**2 + 1)) - _START) / _SLOPE


def _weights(sigmas: list[float], step: int, order: int) -> list[float]:
    """The integral over sigma of each past slope's Lagrange polynomial in time, newest first."""
    places = [_time(sigmas[step - back]) for back in range(order)]
    end = _time(sigmas[step + 1])
    times = np.linspace(places[0], end, POINTS)
    variance = np.expm1(0.5 * _SLOPE * times**2 + _START * times)  # sigma squared
    growth = 0.5 * (_SLOPE * times + _START) * (variance + 1) / np.sqrt(variance)  # dsigma/dt
    weights = []
    for own in range(order):
        basis = np.ones_like(times)
        for back, place in enumerate(places):
            if back != own:
                basis = basis * (times - place) / (places[own] - place)
        weights.append(float((growth * basis).sum() * (end - places[0]) / POINTS))
    return weights
