"""The instances behind an endpoint: as many as are wanted, replaced when one dies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from cloudbrush.testing.sagemaker.clock import Clock, within
from cloudbrush.testing.sagemaker.errors import LaunchFailed
from cloudbrush.testing.sagemaker.faults import Fault, Faults
from cloudbrush.testing.sagemaker.records import EndpointConfig
from cloudbrush.testing.sagemaker.worker import Worker, start

HEALTH_LIMIT = 480.0  # seconds a container has to pass /ping, where the variant does not say; as documented

# What DescribeEndpoint says in FailureReason.
UNHEALTHY = (
    "The primary container for production variant {variant} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)


@dataclass
class Delays:
    """Seconds on the clock that the service takes, beside what the worker's own start takes."""

    creating: float = 0.0
    updating: float = 0.0
    scaling_out: float = 0.0
    scaling_in: float = 0.0
    replacing: float = 0.0
    deleting: float = 0.0


@dataclass(frozen=True)
class Machinery:
    """What instances are made of."""

    command: Sequence[str]
    environment: Mapping[str, str]
    logs: Path
    http: httpx.AsyncClient
    clock: Clock
    delays: Delays
    faults: Faults
    started: list[Worker] = field(default_factory=list)  # every worker there ever was


@dataclass
class Fleet:
    """Healthy workers of one configuration; `changed` is called whenever there is one more or one fewer."""

    machinery: Machinery
    config: EndpointConfig
    changed: Callable[[], None]
    wanted: int = 0
    workers: list[Worker] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)  # of every worker it ever had, oldest first
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def resize(self, wanted: int) -> None:
        """Have so many healthy workers; those that leave finish what they work on.

        Raises `LaunchFailed` if they cannot be had; then there are as many as before.
        """
        before, self.wanted = self.wanted, wanted
        had = list(self.workers)
        if wanted < len(self.workers):
            idlest = sorted(self.workers, key=lambda worker: worker.running)[: len(self.workers) - wanted]
            await asyncio.gather(*(self._dismiss(worker) for worker in idlest))
            return
        launches = [self._launched() for _ in range(wanted - len(self.workers))]
        results = await asyncio.gather(*launches, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            self.wanted = before
            await asyncio.gather(*(self._dismiss(worker) for worker in self.workers if worker not in had))
            raise failures[0]

    def pick(self, at_most: int | None = None) -> Worker | None:
        """The worker with the least to do; None if there is none, or none below the limit."""
        idlest = min(self.workers, key=lambda worker: worker.running, default=None)
        if idlest is None or (at_most is not None and idlest.running >= at_most):
            return None
        return idlest

    async def close(self) -> None:
        """Stop every worker; what they work on they may finish."""
        self.abandon()
        await asyncio.gather(*(self._dismiss(worker) for worker in self.workers))

    def abandon(self) -> None:
        """Replace nobody any more."""
        self.wanted = 0
        for task in self._tasks:
            task.cancel()

    async def _launched(self) -> None:
        """Start one worker and keep watch over it once it is healthy. Raises `LaunchFailed`."""
        machinery = self.machinery
        if machinery.faults.take(Fault.NO_CAPACITY) is not None:
            raise LaunchFailed(NO_CAPACITY)
        environment = {**machinery.environment, **self.config.model.environment}
        worker = await start(
            f"i-{uuid.uuid4().hex[:17]}", machinery.command, environment, machinery.logs, machinery.http
        )
        machinery.started.append(worker)
        self.logs.append(worker.log)
        variant = self.config.variant
        limit = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", HEALTH_LIMIT)
        try:
            await within(machinery.clock, limit, worker.healthy())
        except (TimeoutError, LaunchFailed) as error:
            await worker.kill()
            raise LaunchFailed(UNHEALTHY.format(variant=variant["VariantName"])) from error
        except asyncio.CancelledError:
            await worker.kill()
            raise
        self.workers.append(worker)
        self._spawn(self._watch(worker))
        self.changed()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, worker: Worker) -> None:
        """Replace a worker that ends by itself, as the service replaces unhealthy instances."""
        await worker.process.wait()
        if worker not in self.workers:
            return  # it was dismissed
        self.workers.remove(worker)
        self.changed()
        await self.machinery.clock.sleep(self.machinery.delays.replacing)
        with suppress(LaunchFailed):  # then it is not replaced, as documented
            if len(self.workers) < self.wanted:
                await self._launched()

    async def _dismiss(self, worker: Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            self.changed()
        await worker.stop()
