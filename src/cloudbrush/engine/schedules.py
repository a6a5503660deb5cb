"""Schedules: which noise levels a run visits (specification 3.4).

A schedule is a list of sigmas, descending and, but for KL Optimal, ending with 0. Sigmas are numbers of the
host, so that no sampler has to wait for the device to know where it is. They are computed in float32, in the
WebUI's order of operations: Brownian paths are rough, and show a difference in the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.special import betaincinv  # type: ignore[import-untyped]
from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Options
from cloudbrush.engine.searched_sigmas import (
    AYS_32_SD,
    AYS_32_SDXL,
    AYS_SD,
    AYS_SDXL,
    GITS_SD,
    GITS_SDXL,
)
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
    return _ended(span.model.sigmas_at(torch.linspace(span.last_timestep, 0, steps)))


def karras(steps: int, span: Span) -> list[float]:
    """Even in sigma^(1/rho) (Karras et al. 2022, eq. 5)."""
    return karras_between(steps, span.low, span.high, span.rho or 7.0)


def karras_between(steps: int, lowest: float, highest: float, rho: float = 7.0) -> list[float]:
    """The same between any two sigmas."""
    high, low = highest ** (1 / rho), lowest ** (1 / rho)
    return _ended((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(steps: int, span: Span) -> list[float]:
    """Even in ln sigma."""
    return _ended(torch.linspace(math.log(span.high), math.log(span.low), steps).exp())


def polyexponential(steps: int, span: Span) -> list[float]:
    """Polynomial in ln sigma."""
    low, high = math.log(span.low), math.log(span.high)
    return _ended((torch.linspace(1, 0, steps) ** (span.rho or 1.0) * (high - low) + low).exp())


def sgm_uniform(steps: int, span: Span) -> list[float]:
    """Timesteps evenly, one more than asked for, without the last (Stability's own sampling code)."""
    return _ended(span.model.sigmas_at(_timesteps(steps + 1, span)[:-1]))


def kl_optimal(steps: int, span: Span) -> list[float]:
    """Even in atan sigma (Sabour et al. 2024, theorem 3.1); ends above 0."""
    low, high = (torch.tensor(sigma).arctan() for sigma in (span.low, span.high))
    share = torch.arange(steps + 1) / steps
    sigmas: list[float] = (share * low + (1 - share) * high).tan().tolist()
    return sigmas


def simple(steps: int, span: Span) -> list[float]:
    """Every n-th noise level of the model, from the noisiest."""
    sigmas = span.model.sigmas
    return [*(sigmas[-(1 + int(step * len(sigmas) / steps))] for step in range(steps)), 0.0]


def normal(steps: int, span: Span) -> list[float]:
    """Timesteps evenly between those of the first and last sigma."""
    return _ended(span.model.sigmas_at(_timesteps(steps, span)))


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
    timesteps = (torch.arange(steps, 0, -1) * (count / steps) - 1).round()
    return _ended(span.model.sigmas_at(timesteps))


def _timesteps(count: int, span: Span) -> Tensor:
    """So many timesteps, from that of the first sigma to that of the last."""
    return torch.linspace(span.model.timestep(span.high), span.model.timestep(span.low), count)


def _ended(sigmas: Tensor) -> list[float]:
    return [*sigmas.tolist(), 0.0]


def tabulated(sd: tuple[float, ...], sdxl: tuple[float, ...]) -> Callable[[int, Span], list[float]]:
    """A schedule found by search, resampled log-linearly where another number of steps is asked for."""

    def schedule(steps: int, span: Span) -> list[float]:
        found = sdxl if span.model.sdxl else sd
        if steps == len(found):
            return [*found, 0.0]
        places = np.linspace(0, 1, len(found))
        resampled = np.exp(np.interp(np.linspace(0, 1, steps), places, np.log(found[::-1])))
        return [*resampled[::-1].tolist(), 0.0]

    return schedule


_AYS = tabulated(AYS_SD, AYS_SDXL)

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
    "Align Your Steps GITS": tabulated(GITS_SD, GITS_SDXL),
    "Align Your Steps 11": _AYS,
    "Align Your Steps 32": tabulated(AYS_32_SD, AYS_32_SDXL),
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
