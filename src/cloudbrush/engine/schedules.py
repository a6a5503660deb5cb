"""Schedules: which noise levels a run visits (specification 3.4).

A schedule is a list of sigmas, descending and, but for KL Optimal, ending with 0. Sigmas are numbers of the
host, so that no sampler has to wait for the device to know where it is. Some are computed in float32, as the
WebUI's are, where the difference would show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import betaincinv  # type: ignore[import-untyped]

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Options
from cloudbrush.engine.sigmas import ModelSigmas


@dataclass(frozen=True)
class Span:
    """Between which sigmas of a model a schedule runs, and how it bends; None: as it does by itself."""

    model: ModelSigmas
    lowest: float | None = None
    highest: float | None = None
    rho: float | None = None
    alpha: float = 0.6  # of the Beta schedule
    beta: float = 0.6

    @classmethod
    def of(cls, model: ModelSigmas, options: Options) -> Span:
        """The span that people's options ask for; raises `GenerationFailed` when it is empty."""
        span = cls(
            model,
            options.sigma_min or None,
            options.sigma_max or None,
            options.rho or None,
            options.beta_alpha,
            options.beta_beta,
        )
        if span.low >= span.high:
            raise GenerationFailed(
                f"noise levels cannot run from {span.high:g} down to {span.low:g}",
                field="options.sigma_min" if options.sigma_min else "options.sigma_max",
                hint="Choose a sigma_min below sigma_max; 0 stands for the model's own.",
            )
        return span

    @property
    def low(self) -> float:
        """The last sigma before 0."""
        return self.model.min if self.lowest is None else self.lowest

    @property
    def high(self) -> float:
        """The first sigma."""
        return self.model.max if self.highest is None else self.highest

    @property
    def last_timestep(self) -> int:
        """The noisiest timestep of the model."""
        return len(self.model.sigmas) - 1


def uniform(steps: int, span: Span) -> list[float]:
    """Timesteps evenly from the last to the first."""
    return [*(span.model.sigma(t) for t in np.linspace(span.last_timestep, 0, steps)), 0.0]


def karras(steps: int, span: Span) -> list[float]:
    """Even in sigma^(1/rho) (Karras et al. 2022, eq. 5)."""
    return karras_between(steps, span.low, span.high, span.rho or 7.0)


def karras_between(steps: int, lowest: float, highest: float, rho: float = 7.0) -> list[float]:
    """The same between any two sigmas."""
    high, low = highest ** (1 / rho), lowest ** (1 / rho)
    ramp = np.linspace(0, 1, steps, dtype=np.float32)
    return [*((high + ramp * (low - high)) ** rho).tolist(), 0.0]


def exponential(steps: int, span: Span) -> list[float]:
    """Even in ln sigma."""
    return [*np.exp(np.linspace(math.log(span.high), math.log(span.low), steps)).tolist(), 0.0]


def polyexponential(steps: int, span: Span) -> list[float]:
    """Polynomial in ln sigma."""
    ramp = np.linspace(1, 0, steps, dtype=np.float32) ** (span.rho or 1.0)
    low, high = math.log(span.low), math.log(span.high)
    return [*np.exp(ramp * (high - low) + low).tolist(), 0.0]


def sgm_uniform(steps: int, span: Span) -> list[float]:
    """Timesteps evenly, one more than asked for, without the last (Stability's own sampling code)."""
    first, last = span.model.timestep(span.high), span.model.timestep(span.low)
    return [*(span.model.sigma(t) for t in np.linspace(first, last, steps + 1)[:-1]), 0.0]


def kl_optimal(steps: int, span: Span) -> list[float]:
    """Even in atan sigma (Sabour et al. 2024, theorem 3.1); ends above 0."""
    share = np.arange(steps + 1, dtype=np.float32) / steps
    angle = share * math.atan(span.low) + (1 - share) * math.atan(span.high)
    sigmas: list[float] = np.tan(angle).tolist()
    return sigmas


def simple(steps: int, span: Span) -> list[float]:
    """Every n-th noise level of the model, from the noisiest."""
    sigmas = span.model.sigmas
    return [*(sigmas[-(1 + int(step * len(sigmas) / steps))] for step in range(steps)), 0.0]


def normal(steps: int, span: Span) -> list[float]:
    """Timesteps evenly between those of the first and last sigma."""
    first, last = span.model.timestep(span.high), span.model.timestep(span.low)
    return [*(span.model.sigma(t) for t in np.linspace(first, last, steps)), 0.0]


def ddim(steps: int, span: Span) -> list[float]:
    """Every n-th noise level counted from the second; may be one step more than asked for, like the WebUI."""
    sigmas = span.model.sigmas
    stride = max(len(sigmas) // steps, 1)
    return [*reversed(sigmas[1::stride]), 0.0]


def beta(steps: int, span: Span) -> list[float]:
    """Quantiles of the beta distribution over sigma (Lee et al. 2024)."""
    quantiles = betaincinv(span.alpha, span.beta, 1 - np.linspace(0, 1, steps))
    return [*(span.low + quantiles * (span.high - span.low)).tolist(), 0.0]


def turbo(steps: int, span: Span) -> list[float]:
    """Timesteps evenly, rounded, as SDXL Turbo was distilled."""
    count = len(span.model.sigmas)
    timesteps = np.round(np.arange(steps, 0, -1) * (count / steps) - 1).clip(0, count - 1)
    return [*(span.model.sigmas[int(t)] for t in timesteps), 0.0]


def tabulated(*sigmas: float) -> Callable[[int, Span], list[float]]:
    """A schedule found by search, resampled log-linearly where another number of steps is asked for."""
    logarithms = np.log(sigmas[::-1])

    def schedule(steps: int, _span: Span) -> list[float]:
        if steps == len(sigmas):
            return [*sigmas, 0.0]
        places = np.linspace(0, 1, steps)
        resampled = np.exp(np.interp(places, np.linspace(0, 1, len(sigmas)), logarithms))
        return [*resampled[::-1].tolist(), 0.0]

    return schedule


# Sabour et al. 2024, table of SD1.5; 32 steps and the search of Chen et al. 2024 (GITS) as Forge offers them.
_AYS = tabulated(14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_GITS = tabulated(14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.24, 0.156, 0.104, 0.094, 0.029)
_AYS_32 = tabulated(
    *(
        14.615,
        11.23951,
        8.64363,
        6.647294,
        5.572508,
        4.716485,
        3.991961,
        3.519561,
        3.134905,
        2.792288,
        2.487736,
    ),
    *(2.216639, 1.975083, 1.779317, 1.614753, 1.46541, 1.314849, 1.166425, 1.034756, 0.9157374, 0.8074817),
    *(0.7120236, 0.6217389, 0.530652, 0.4529096, 0.3749145, 0.2746182, 0.2011529, 0.1410587, 0.06682881),
    *(0.03166121, 0.015),
)

SCHEDULES: dict[str, Callable[[int, Span], list[float]]] = {
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "Polyexponential": polyexponential,
    "SGM Uniform": sgm_uniform,
    "KL Optimal": kl_optimal,
    "Align Your Steps": _AYS,
    "Simple": simple,
    "Normal": normal,
    "DDIM": ddim,
    "Beta": beta,
    "Turbo": turbo,
    "Align Your Steps GITS": _GITS,
    "Align Your Steps 11": _AYS,
    "Align Your Steps 32": _AYS_32,
}


def build(schedule: str, steps: int, span: Span, *, discard_penultimate: bool = False) -> list[float]:
    """The sigmas of a schedule by its resolved name.

    `discard_penultimate`: one step more is planned and the last but one left out.
    """
    if discard_penultimate:
        sigmas = SCHEDULES[schedule](steps + 1, span)
        return [*sigmas[:-2], sigmas[-1]]
    return SCHEDULES[schedule](steps, span)


def steps_done(sigmas: Sequence[float], sigma: float) -> int:
    """How many whole steps of a schedule lie behind a sampler that asks for a prediction at `sigma`."""
    return sum(1 for _, end in pairwise(sigmas) if sigma <= end * (1 + 1e-6))
