"""From the name of a sampling method to an image's sampler at its beginning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Options
from cloudbrush.domain.sampling import Sampler, resolve_schedule
from cloudbrush.engine import samplers, schedules
from cloudbrush.engine.brownian import BrownianPath
from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers import SAMPLERS, Algorithm, PairSampling, Sampling, Walk
from cloudbrush.engine.samplers.ddim import ddim_timesteps
from cloudbrush.engine.samplers.lcm import consistent_sampling, distilled, distilled_timestep, lcm
from cloudbrush.engine.schedules import Span
from cloudbrush.engine.sigmas import ModelSigmas

_MOST_STRENGTH = 0.999  # a pass over an image never begins with noise alone
_LONGEST = 100_000  # steps of a schedule that only ends are taken of


@dataclass(frozen=True)
class Late:
    """A beginning on the way, for a pass over an image (specification 3.5)."""

    of: int  # steps of the whole schedule
    last: int  # the WebUI's t_enc: steps before the last one

    @classmethod
    def exactly(cls, steps: int, strength: float) -> Late:
        """So many steps, of a schedule so much longer; none of no schedule at strength 0."""
        of = min(steps / min(strength, _MOST_STRENGTH), _LONGEST) if strength else 0
        return cls(int(of), steps - 1)

    @classmethod
    def share(cls, steps: int, strength: float) -> Late:
        """The last steps of a schedule, in proportion to the strength."""
        return cls(steps, int(min(strength, _MOST_STRENGTH) * steps))


@dataclass(frozen=True)
class Plan:
    """How a pass samples: the algorithm, the noise levels it goes along, and its options."""

    algorithm: Algorithm
    sigmas: list[float]  # visited, or what tells how far the pass is
    timesteps: list[int]  # ascending
    highest: float  # sigma of the schedule, where a pass over an image may begin below
    noised_at: float  # sigma of what the pass begins with
    steps: int
    calls: int  # predictions, as the WebUI counts them beforehand
    span: Span
    options: Options
    over_image: bool

    @classmethod
    def of(
        cls,
        sampler: Sampler,
        schedule: str,
        steps: int,
        model: ModelSigmas,
        options: Options = Options(),
        late: Late | None = None,
    ) -> Plan:
        """The plan of a sampler and schedule by name; raises `GenerationFailed` for too few steps.

        `late`: for a pass over an image; `steps` is not asked for then.
        """
        if late is None and steps < sampler.fewest_steps:
            raise GenerationFailed(
                f"{sampler.name} needs at least {sampler.fewest_steps} steps, not {steps}",
                field="steps",
                hint=f"Choose {sampler.fewest_steps} steps or more.",
            )
        algorithm, span = SAMPLERS[sampler.name], Span.of(model, options)
        timesteps: list[int] = []
        if algorithm.walk is Walk.TIMESTEPS:
            timesteps, noised_at = _timesteps(steps, late, model, options)
            sigmas = [model.sigmas[timestep] for timestep in reversed(timesteps)]
            highest = noised_at
        else:
            whole = _sigmas(sampler, schedule, late.of if late else steps, span, options)
            sigmas = whole if late is None else _end_of(whole, late)
            highest, noised_at = max(whole), sigmas[0]
        if late is not None:
            steps = late.last + 1 if late.of else 0
        calls = steps * (2 if sampler.second_order else 1)
        over = late is not None
        return cls(algorithm, sigmas, timesteps, highest, noised_at, steps, calls, span, options, over)

    @property
    def counts_timesteps(self) -> bool:
        """Whether the algorithm goes by the model's timesteps, not by noise levels."""
        return self.algorithm.walk is Walk.TIMESTEPS

    def timestep(self, sigma: float, model: ModelSigmas | None = None) -> float:
        """What a UNet is told a sigma is: fractional, but for a distilled model one of those it knows."""
        model = model or self.span.model
        if self.algorithm.walk is Walk.CONSISTENCY:
            return distilled_timestep(sigma, model)
        timestep = model.timestep(sigma)
        return round(timestep) if self.options.quantize else timestep

    def begin(
        self, noise: Noise, brownian_source: str, seed: int, image: Tensor | None = None, share: float = 1.0
    ) -> Sampling | PairSampling:
        """The sampler of one image; its first noise is where the image begins, or is laid over `image`.

        `image`: (channels, height, width) latents; `share`: what the first noise is multiplied with.
        """
        first = noise() * share
        x = self._noised(first, image)
        function, options = self.algorithm.function, self._sampler_options()
        if self.over_image and self.steps == 0:
            return _nothing_to_do(x if image is None else image)
        match self.algorithm.walk:
            case Walk.TIMESTEPS:
                return function(x, self.timesteps, self.span.model, noise, options)
            case Walk.CALLS:
                return function(x, *self._ends, self.steps, noise, options)
            case Walk.TOLERANCE:
                return function(x, *self._ends, noise, options)
            case Walk.CONSISTENCY:
                return consistent_sampling(lcm(x, self.sigmas, noise, options), self.timestep)
            case Walk.BROWNIAN:
                return function(x, self.sigmas, self._path(first, brownian_source, seed), options)
            case _:
                return function(x, self.sigmas, noise, options)

    @property
    def _ends(self) -> tuple[float, float]:
        """Between which sigmas an algorithm chooses its steps: the model's, whatever the schedule says."""
        if self.over_image:
            return self.sigmas[0], self.sigmas[-2]
        return self.span.model.max, self.span.model.min

    def _noised(self, noise: Tensor, image: Tensor | None) -> Tensor:
        """Where the sampler begins: noise alone, or an image under noise."""
        sigma = self.noised_at
        if image is None:
            if self.counts_timesteps:
                return noise
            return noise * (math.sqrt(sigma**2 + 1) if self.options.sgm_noise_multiplier else sigma)
        x = image + noise * sigma + noise * self.options.extra_noise
        return x / math.sqrt(sigma**2 + 1) if self.counts_timesteps else x

    def _sampler_options(self) -> samplers.Options:
        own = self.options
        return samplers.Options(
            eta=own.eta,
            eta_ddim=own.eta_ddim,
            churn=own.sigma_churn,
            churn_from=own.sigma_tmin,
            churn_until=own.sigma_tmax or math.inf,
            noise_scale=own.sigma_noise if self.algorithm.scales_noise else 1.0,
            over_image=self.over_image,
        )

    def _path(self, first: Tensor, source: str, seed: int) -> _OnDevice:
        low = min(sigma for sigma in self.sigmas if sigma > 0)
        return _OnDevice(BrownianPath(source, seed, tuple(first.shape), low, self.highest), first)


def _timesteps(
    steps: int, late: Late | None, model: ModelSigmas, options: Options
) -> tuple[list[int], float]:
    """The timesteps of a pass, ascending, and the noise level of what it begins with.

    Discarding the penultimate sigma plans one more, and then, like the WebUI, leaves none out.
    """
    more = 1 if options.discard_penultimate else 0
    if late is None:
        timesteps = ddim_timesteps(steps + more, model)
        return timesteps, model.sigmas[timesteps[-1]]
    timesteps = ddim_timesteps(max(1, late.of) + more, model)
    last = min(late.last, len(timesteps) - 1)
    return timesteps[:last], model.sigmas[timesteps[last]]


def _sigmas(sampler: Sampler, schedule: str, steps: int, span: Span, options: Options) -> list[float]:
    if SAMPLERS[sampler.name].walk is Walk.CONSISTENCY:
        span = replace(span, model=distilled(span.model))
    return schedules.build(
        resolve_schedule(sampler, schedule),
        max(1, steps),
        span,
        discard_penultimate=options.discard_penultimate or sampler.discards_penultimate,
    )


def _end_of(sigmas: list[float], late: Late) -> list[float]:
    """The last steps of a schedule; where it repeats itself, as very long ones do, once."""
    start = late.of - late.last - 1
    if not 0 <= start < len(sigmas) - 1:  # a schedule that is shorter than it was asked to be
        start = max(0, len(sigmas) - late.last - 2)
    end = sigmas[start:]
    return [end[0], *(lower for higher, lower in pairwise(end) if lower < higher)]


def _nothing_to_do(image: Tensor) -> Sampling:
    """The sampling of a pass without steps."""
    return image
    yield  # a generator, too


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """A Brownian path whose noise arrives where the image is."""

    path: Callable[[float, float], Tensor]
    like: Tensor

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return self.path(sigma, sigma_next).to(self.like.device)
