"""The seam to the places where workers live."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.invocation import Invocation, WorkerEvent


@dataclass(frozen=True)
class Capabilities:
    """What a provider can do; asked before, instead of failing as a surprise."""

    scales_to_zero: bool  # min_instances may be 0: workers start when first needed


@dataclass(frozen=True)
class Observed:
    """An endpoint as its provider sees it."""

    state: EndpointState
    instances: int = 0  # workers that can take an invocation now
    failure_reason: str | None = None


class Provider(Protocol):
    """A place where workers live."""

    capabilities: Capabilities

    def watch(self, on_change: Callable[[str], None]) -> None:
        """Call `on_change(endpoint name)` whenever `describe` would answer something new."""

    async def deploy(self, spec: EndpointSpec) -> None:
        """Begin to make the endpoint as asked for; returns before it is InService.

        One that is there gets the number of instances asked for; nothing happens when it is so already.
        Raises `InvalidInput`, `Conflict`, `Unavailable`; then nothing was made.
        """

    async def describe(self, name: str) -> Observed:
        """How the endpoint is now. Raises `NotFound`."""

    async def delete(self, name: str) -> None:
        """Take the endpoint and its workers down, if it is there; returns when they are gone."""

    def invoke(self, name: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """Run one attempt; ends after `Finished` or `Failed`. Closing the generator stops the attempt.

        Raises `WorkerLost` when the worker dies or is silent for too long, `NotFound` without the endpoint,
        `WaitedTooLong` and `RanTooLong` where the provider keeps time itself.
        """


@runtime_checkable
class LastingProvider(Provider, Protocol):
    """A provider whose attempts may go on when nobody follows them: it says `Accepted` when that is so.

    Closing the generator of an accepted attempt only stops following it.
    """

    def resume(self, handle: str) -> AsyncGenerator[WorkerEvent]:
        """Follow an accepted attempt again, as `invoke` does; what it told before may be told again."""

    async def stop(self, job_id: str, epoch: int) -> None:
        """Stop an attempt, running or waiting, that nobody follows any more. There may be none."""
