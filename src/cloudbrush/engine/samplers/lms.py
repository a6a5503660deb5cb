"""Linear multistep: Adams-Bashforth over the noise levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.polynomial import Polynomial
from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope

ORDER = 4


def lms(x: Tensor, sigmas: list[float], _noise: Noise, _options: Options) -> Sampling:
    """Slopes of up to four past steps, weighted by the integrals of their Lagrange polynomials."""
    slopes: list[Tensor] = []
    for step, (sigma, _) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        slopes = [slope(x, sigma, denoised), *slopes[: ORDER - 1]]
        for weight, past in zip(_weights(sigmas, step, len(slopes)), slopes, strict=True):
            x = x + past * weight
    return x


def _weights(sigmas: list[float], step: int, order: int) -> list[float]:
    """How much each of the last `order` slopes, newest first, counts for the step from sigmas[step]."""
    places = [sigmas[step - back] for back in range(order)]
    weights = []
    for own in range(order):
        others = [place for back, place in enumerate(places) if back != own]
        basis = Polynomial.fromroots(others) if others else Polynomial([1.0])
        basis = basis / np.prod([places[own] - other for other in others])
        integral = basis.integ()
        weights.append(float(integral(sigmas[step + 1]) - integral(sigmas[step])))
    return weights
