"""The noise levels a model was trained at, and the timesteps they belong to (specification 3.2)."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cache

import numpy as np

TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
DEFAULT, ZERO_TERMINAL_SNR = "Default", "Zero Terminal SNR"  # noise schedules as the WebUI calls them
_LAST_ALPHA = 4.8973451890853435e-8  # stands for zero, which has no finite sigma


@dataclass(frozen=True)
class ModelSigmas:
    """The noise levels a model was trained at, ascending, one per integer timestep from 0."""

    sigmas: tuple[float, ...]

    @classmethod
    def sd(cls) -> ModelSigmas:
        """Those of SD1, SD2 and SDXL: scaled-linear betas (Rombach et al. 2022)."""
        return cls.of(DEFAULT)

    @classmethod
    @cache
    def of(cls, noise_schedule: str, *, downcast: bool = False) -> ModelSigmas:
        """Those of SD1, SD2 and SDXL under a noise schedule.

        `downcast`: squared signal shares in half precision, as the WebUI had them before 1.7.
        """
        betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=np.float64) ** 2
        alphas_cumprod: np.ndarray = np.cumprod(1 - betas)
        if downcast:
            alphas_cumprod = alphas_cumprod.astype(np.float16)
        if noise_schedule == ZERO_TERMINAL_SNR:  # in half precision it would overflow
            alphas_cumprod = _without_signal_at_last(alphas_cumprod.astype(np.float64))
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

    def nearest(self, sigma: float) -> int:
        """The integer timestep whose sigma is nearest; of two as near the lower."""
        above = min(bisect_left(self.sigmas, sigma), len(self.sigmas) - 1)
        return min((max(0, above - 1), above), key=lambda timestep: abs(self.sigmas[timestep] - sigma))

    def sigma(self, timestep: float) -> float:
        """The sigma of a fractional timestep, linear in between in ln sigma."""
        low = min(max(math.floor(timestep), 0), len(self.sigmas) - 1)
        high = min(low + 1, len(self.sigmas) - 1)
        share = min(max(timestep - low, 0.0), 1.0)
        return math.exp((1 - share) * math.log(self.sigmas[low]) + share * math.log(self.sigmas[high]))


def _without_signal_at_last(alphas_cumprod: np.ndarray) -> np.ndarray:
    """Squared signal shares shifted: the last is almost nothing, the first stays (Lin et al. 2024)."""
    shares = np.sqrt(alphas_cumprod)
    shifted: np.ndarray = ((shares - shares[-1]) * shares[0] / (shares[0] - shares[-1])) ** 2
    shifted[-1] = _LAST_ALPHA
    return shifted
