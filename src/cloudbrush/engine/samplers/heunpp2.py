"""Heun++ 2."""

from __future__ import annotations

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, slope


def heunpp2(x: Tensor, sigmas: list[float], _noise: Noise, _options: Options) -> Sampling:
    """Heun's method that looks two levels ahead and trusts them by their sigmas (Chen et al. 2024)."""
    for step, sigma in enumerate(sigmas[:-1]):
        ahead, place = x, sigma
        slopes = []
        targets = [level for level in sigmas[step + 1 : step + 3] if level != sigmas[-1]]
        for target in [*targets, None]:
            denoised = yield ahead, place
            slopes.append(slope(ahead, place, denoised))
            if target is not None:
                ahead, place = ahead + slopes[-1] * (target - place), target
        shares = [target / (len(slopes) * sigmas[0]) for target in targets]
        mean = slopes[0] * (1 - sum(shares))
        for share, later in zip(shares, slopes[1:], strict=True):
            mean = mean + later * share
        x = x + mean * (sigmas[step + 1] - sigma)
    return x
