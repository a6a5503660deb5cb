"""Noise levels: a model's own, and the schedules that choose among them (specification 3.2, 3.4).

A schedule is a list of sigmas, from the first noise level down to 0. Sigmas are numbers of the host, so that
no sampler has to wait for the device to know where it is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
KARRAS_RHO = 7.0


@dataclass(frozen=True)
class ModelSigmas:
    """The noise levels a model was trained at, ascending, one per integer timestep from 0."""

    sigmas: tuple[float, ...]

    @classmethod
    def sd(cls) -> ModelSigmas:
        """Those of SD1, SD2 and SDXL: scaled-linear betas (Rombach et al. 2022)."""
        betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=np.float64) ** 2
        alphas_cumprod = np.cumprod(1 - betas)
        return cls(tuple(np.sqrt((1 - alphas_cumprod) / alphas_cumprod).tolist()))

    @property
    def min(self) -> float:
        """The smallest sigma."""
        return self.sigmas[0]

    @property
    def max(self) -> float:
        """The largest sigma."""
        return self.sigmas[-1]

    def timestep(self, sigma: float) -> float:
        """The fractional timestep of a sigma, linear in ln sigma between the model's own; clamped to them."""
        if sigma <= self.min:
            return 0.0
        above = bisect_right(self.sigmas, sigma)
        if above >= len(self.sigmas):
            return float(len(self.sigmas) - 1)
        low, high = math.log(self.sigmas[above - 1]), math.log(self.sigmas[above])
        return above - 1 + (math.log(sigma) - low) / (high - low)

    def sigma(self, timestep: float) -> float:
        """The sigma of a fractional timestep, linear in between in ln sigma."""
        low = min(max(math.floor(timestep), 0), len(self.sigmas) - 1)
        high = min(low + 1, len(self.sigmas) - 1)
        share = min(max(timestep - low, 0.0), 1.0)
        return math.exp((1 - share) * math.log(self.sigmas[low]) + share * math.log(self.sigmas[high]))


def uniform(steps: int, model: ModelSigmas) -> list[float]:
    """Timesteps evenly from the last to the first."""
    last = len(model.sigmas) - 1
    return [*(model.sigma(t) for t in np.linspace(last, 0, steps)), 0.0]


def karras(steps: int, model: ModelSigmas, rho: float = KARRAS_RHO) -> list[float]:
    """Even in sigma^(1/rho) (Karras et al. 2022, eq. 5)."""
    high, low = model.max ** (1 / rho), model.min ** (1 / rho)
    ramp = np.linspace(0, 1, steps, dtype=np.float32)  # so are the WebUI's, and the power makes it visible
    return [*((high + ramp * (low - high)) ** rho).tolist(), 0.0]


SCHEDULES: dict[str, Callable[[int, ModelSigmas], list[float]]] = {
    "Uniform": uniform,
    "Karras": karras,
}


def build(schedule: str, steps: int, model: ModelSigmas) -> list[float]:
    """The sigmas of a schedule by its resolved name; descending, ending with 0."""
    return SCHEDULES[schedule](steps, model)


def steps_done(sigmas: Sequence[float], sigma: float) -> int:
    """How many whole steps of a schedule lie behind a sampler that asks for a prediction at `sigma`."""
    return sum(1 for _, end in pairwise(sigmas) if sigma <= end * (1 + 1e-6))
