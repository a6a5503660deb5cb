"""From the name of a sampling method to an image's sampler at its beginning."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.sampling import Sampler, resolve_schedule
from cloudbrush.engine import schedules
from cloudbrush.engine.brownian import BrownianPath
from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers import SAMPLERS, Algorithm, Options, PairSampling, Sampling, Walk
from cloudbrush.engine.samplers.ddim import ddim_timesteps
from cloudbrush.engine.samplers.lcm import consistent_sampling, distilled, distilled_timestep, lcm
from cloudbrush.engine.schedules import Span


@dataclass(frozen=True)
class Plan:
    """How a run samples: the algorithm, the noise levels it goes along, and its options."""

    algorithm: Algorithm
    sigmas: list[float]  # visited, or what tells how far the run is
    timesteps: list[int]
    steps: int
    span: Span
    options: Options

    @classmethod
    def of(
        cls,
        sampler: Sampler,
        schedule: str,
        steps: int,
        span: Span,
        options: Options | None = None,
        *,
        discard_penultimate: bool = False,
    ) -> Plan:
        """The plan of a sampler and schedule by name; raises `GenerationFailed` for too few steps."""
        if steps < sampler.fewest_steps:
            raise GenerationFailed(
                f"{sampler.name} needs at least {sampler.fewest_steps} steps, not {steps}",
                field="steps",
                hint=f"Choose {sampler.fewest_steps} steps or more.",
            )
        algorithm = SAMPLERS[sampler.name]
        timesteps: list[int] = []
        if algorithm.walk is Walk.TIMESTEPS:
            timesteps = ddim_timesteps(steps, span.model)
            sigmas = [span.model.sigmas[timestep] for timestep in reversed(timesteps)]
        else:
            known = span.model
            if algorithm.walk is Walk.CONSISTENCY:
                known = distilled(known)
            sigmas = schedules.build(
                resolve_schedule(sampler, schedule),
                steps,
                replace(span, model=known),
                discard_penultimate=discard_penultimate or sampler.discards_penultimate,
            )
        return cls(algorithm, sigmas, timesteps, steps, span, options or Options())

    def timestep(self, sigma: float) -> float:
        """What the UNet is told a sigma is: fractional, but for a distilled model one of those it knows."""
        if self.algorithm.walk is Walk.CONSISTENCY:
            return distilled_timestep(sigma, self.span.model)
        return self.span.model.timestep(sigma)

    def begin(self, noise: Noise, brownian_source: str, seed: int) -> Sampling | PairSampling:
        """The sampler of one image; its first noise is where the image begins."""
        first = noise()
        x = first * self.sigmas[0]
        function, options = self.algorithm.function, self.options
        match self.algorithm.walk:
            case Walk.TIMESTEPS:
                return function(first, self.timesteps, self.span.model, noise, options)
            case Walk.CALLS:
                return function(x, self.span.high, self.span.low, self.steps, noise, options)
            case Walk.TOLERANCE:
                return function(x, self.span.high, self.span.low, noise, options)
            case Walk.CONSISTENCY:
                return consistent_sampling(lcm(x, self.sigmas, noise, options), self.timestep)
            case Walk.BROWNIAN:
                return function(x, self.sigmas, self._path(first, brownian_source, seed), options)
            case _:
                return function(x, self.sigmas, noise, options)

    def _path(self, first: Tensor, source: str, seed: int) -> _OnDevice:
        low, high = min(sigma for sigma in self.sigmas if sigma > 0), max(self.sigmas)
        return _OnDevice(BrownianPath(source, seed, tuple(first.shape), low, high), first)


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """A Brownian path whose noise arrives where the image is."""

    path: BrownianPath
    like: Tensor

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        return self.path(sigma, sigma_next).to(self.like.device)
