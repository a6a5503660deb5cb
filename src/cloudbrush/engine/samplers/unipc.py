"""Unified predictor-corrector sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling
from cloudbrush.engine.sigmas import ModelSigmas

ORDER = 3


@dataclass(frozen=True, eq=False)
class _Point:
    """A time the sampler has been at: sigma, lambda = -ln sigma, and what was denoised there."""

    sigma: float
    denoised: Tensor

    @property
    def logarithm(self) -> float:
        return -math.log(self.sigma)


def unipc(x: Tensor, timesteps: list[int], model: ModelSigmas, _noise: Noise, options: Options) -> Sampling:
    """Zhao et al. 2023 (arXiv 2302.04867): UniPC-3, data prediction, B1(h) = h, lower order at the end.

    `timesteps` tells how many steps to take, and over an image from where; the WebUI spaces them evenly over
    the model's time. With fewer steps than its order it is of lower order.
    """
    if not timesteps:
        return x
    steps, end = len(timesteps), 1 / len(model.sigmas)
    start = (timesteps[-1] + 1) * end if options.over_image else 1.0
    sigmas = [_sigma(model, start - (start - end) * step / steps) for step in range(steps + 1)]
    denoised = yield _scaled(x, sigmas[0]), sigmas[0]
    past = [_Point(sigmas[0], denoised)]  # newest first
    for step in range(1, steps + 1):
        order = min(step, ORDER, steps + 1 - step)
        sigma = sigmas[step]
        update = _Update(x, past[:order], sigma)
        x = update.predicted()
        if step < steps:
            denoised = yield _scaled(x, sigma), sigma
            x = update.corrected(denoised)
            past = [_Point(sigma, denoised), *past[: ORDER - 1]]
    return x


class _Update:
    """One step from the newest of `past` points to `sigma`, of the order of their number."""

    def __init__(self, x: Tensor, past: list[_Point], sigma: float) -> None:
        newest = past[0]
        h = -math.log(sigma) - newest.logarithm
        alpha, alpha_before = 1 / math.sqrt(sigma**2 + 1), 1 / math.sqrt(newest.sigma**2 + 1)
        self._newest = newest
        self._base = x * (sigma * alpha / (newest.sigma * alpha_before))
        self._base = self._base - newest.denoised * (alpha * math.expm1(-h))
        self._step = -alpha * -h  # alpha times B(h), both of data prediction
        ratios = [(point.logarithm - newest.logarithm) / h for point in past[1:]]
        self._differences = [
            (point.denoised - newest.denoised) / ratio for point, ratio in zip(past[1:], ratios, strict=True)
        ]
        self._ratios = [*ratios, 1.0]
        self._moments = _moments(-h, len(past))

    def predicted(self) -> Tensor:
        """The state by extrapolation alone."""
        inner = self._ratios[:-1]
        weights = [0.5] if len(inner) == 1 else _solve(inner, self._moments)
        return self._base + self._weighted(weights) * self._step

    def corrected(self, denoised: Tensor) -> Tensor:
        """The state with what was denoised at the predicted one."""
        weights = [0.5] if len(self._ratios) == 1 else _solve(self._ratios, self._moments)
        newest = (denoised - self._newest.denoised) * weights[-1]
        return self._base + (newest + self._weighted(weights[:-1])) * self._step

    def _weighted(self, weights: list[float]) -> Tensor:
        total = self._newest.denoised * 0
        for weight, difference in zip(weights, self._differences, strict=True):
            total = total + difference * weight
        return total


def _moments(hh: float, order: int) -> list[float]:
    """phi_{n+1}(hh) n! / (B(hh)/hh) for n = 1 ... order, with B(h) = h."""
    moments = []
    phi = math.expm1(hh) / hh - 1
    for n in range(1, order + 1):
        moments.append(phi * math.factorial(n) / hh)
        phi = phi / hh - 1 / math.factorial(n + 1)
    return moments


def _solve(ratios: list[float], moments: list[float]) -> list[float]:
    """Weights whose sums with the powers of `ratios` are the moments."""
    if not ratios:
        return []
    powers = np.vander(ratios, increasing=True).T
    weights: list[float] = np.linalg.solve(powers, moments[: len(ratios)]).tolist()
    return weights


def _sigma(model: ModelSigmas, time: float) -> float:
    """The noise level at a time in (0, 1], linear in ln alpha between the model's own."""
    place = time * len(model.sigmas) - 1
    low = min(int(place), len(model.sigmas) - 2)
    share = place - low
    logs = [-math.log(model.sigmas[index] ** 2 + 1) for index in (low, low + 1)]
    return math.sqrt(math.expm1(-((1 - share) * logs[0] + share * logs[1])))


def _scaled(x: Tensor, sigma: float) -> Tensor:
    return x * math.sqrt(sigma**2 + 1)
