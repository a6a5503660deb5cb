"""One endpoint: its states, and what happens while it is in one that passes.

"DescribeEndpoint" of the API reference says what each state means and which operations it allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cloudbrush.testing.sagemaker.delivery import Delivery
from cloudbrush.testing.sagemaker.errors import Invalid, LaunchFailed
from cloudbrush.testing.sagemaker.fleet import Fleet, Machinery
from cloudbrush.testing.sagemaker.queue import Queue
from cloudbrush.testing.sagemaker.records import EndpointConfig
from cloudbrush.testing.sagemaker.worker import Worker

IN_PROGRESS = frozenset({"Creating", "Updating", "RollingBack", "Deleting"})
ANSWERING = frozenset({"InService", "Updating", "RollingBack"})


class Endpoint:
    """A named place that answers invocations; `gone` is called when it is deleted for good."""

    def __init__(
        self,
        name: str,
        arn: str,
        config: EndpointConfig,
        machinery: Machinery,
        delivery: Delivery,
        gone: Callable[[], None],
    ) -> None:
        self.name = name
        self.arn = arn
        self.config = config
        self.failure_reason: str | None = None
        self.created_at = self.modified_at = machinery.clock.now()
        self.desired = self._initial(config)
        self.weight = float(config.variant.get("InitialVariantWeight", 1.0))
        self.queue = Queue(self, delivery, machinery.clock, machinery.faults)
        self._machinery = machinery
        self._gone = gone
        self._status = "Creating"
        self._fleet = Fleet(machinery, config, self.queue.pump)
        self._work = asyncio.ensure_future(self._create())

    @property
    def status(self) -> str:
        """EndpointStatus."""
        return self._status

    @property
    def logs(self) -> str:
        """What the workers of its present configuration have printed."""
        return "\n".join(log.read_text(errors="replace") for log in self._fleet.logs)

    def instances(self) -> int:
        """How many instances are healthy."""
        return len(self._fleet.workers)

    def pick(self, at_most: int | None = None) -> Worker | None:
        """The instance with the least to do; None if there is none, or none below the limit."""
        return self._fleet.pick(at_most) if self._status in ANSWERING else None

    def update(self, config: EndpointConfig, *, retain: bool) -> None:
        """Move to another configuration; `retain` keeps the number of instances. Raises `Invalid`."""
        self._require_rest()
        wanted = self.desired if retain else self._initial(config)
        self._begin("Updating", self._update(config, wanted))

    def scale(self, instances: int | None, weight: float | None = None) -> None:
        """Have so many instances, as application autoscaling asks for. Raises `Invalid`."""
        self._require_rest()
        if instances == 0 and self.config.asynchronous is None:
            raise Invalid("The desired instance count of a real-time endpoint must be at least 1.")
        before, self.desired = self.desired, self.desired if instances is None else instances
        self.weight = self.weight if weight is None else weight
        self._begin("Updating", self._scale(before))

    def delete(self) -> None:
        """Stop answering, and be gone after a while. Raises `Invalid`."""
        if self._status != "Failed":
            self._require_rest()
        self._begin("Deleting", self._delete())

    async def kill_worker(self) -> int:
        """kill -9 for the busiest worker: its process id. Raises `Invalid` if there is none."""
        busiest = max(self._fleet.workers, key=lambda worker: worker.running, default=None)
        if busiest is None:
            raise Invalid(f"{self.name} has no worker")
        await busiest.kill()
        return busiest.process.pid

    async def close(self) -> None:
        """Do nothing more; the workers are left to whoever started the machinery."""
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)
        await self.queue.close()
        self._fleet.abandon()

    def _require_rest(self) -> None:
        if self._status in IN_PROGRESS:
            raise Invalid(f'Cannot update in-progress endpoint "{self.arn}".')
        if self._status == "Failed":
            raise Invalid(f'Cannot update failed endpoint "{self.arn}": it can only be deleted.')

    def _begin(self, status: str, work: Coroutine[Any, Any, None]) -> None:
        self._become(status)
        self._work = asyncio.ensure_future(work)

    def _become(self, status: str, failure_reason: str | None = None) -> None:
        self._status = status
        self.failure_reason = failure_reason
        self.modified_at = self._machinery.clock.now()
        self.queue.pump()

    async def _create(self) -> None:
        await self._machinery.clock.sleep(self._machinery.delays.creating)
        try:
            await self._fleet.resize(self.desired)
        except LaunchFailed as error:
            self._become("Failed", str(error))
        else:
            self._become("InService")

    async def _update(self, config: EndpointConfig, wanted: int) -> None:
        """New instances first, then the old ones leave; if the new fail, the old stay ("blue/green")."""
        await self._machinery.clock.sleep(self._machinery.delays.updating)
        fleet = Fleet(self._machinery, config, self.queue.pump)
        try:
            await fleet.resize(wanted)
        except LaunchFailed as error:
            self._become("InService", str(error))
            return
        except asyncio.CancelledError:
            await fleet.close()
            raise
        old, self._fleet = self._fleet, fleet
        self.config, self.desired = config, wanted
        self._become("InService")
        await old.close()

    async def _scale(self, before: int) -> None:
        """Rolls back to as many as before if more cannot be had."""
        delays = self._machinery.delays
        await self._machinery.clock.sleep(
            delays.scaling_out
            if self.desired > before
            else delays.scaling_in
            if self.desired < before
            else 0.0
        )
        try:
            await self._fleet.resize(self.desired)
        except LaunchFailed as error:
            self.desired = before
            self._become("RollingBack", str(error))
            self._become("InService", str(error))
        else:
            self._become("InService")

    async def _delete(self) -> None:
        """Queued and running invocations are lost: neither object nor message; the guide does not say."""
        await self.queue.close()
        await self._machinery.clock.sleep(self._machinery.delays.deleting)
        await self._fleet.close()
        self._gone()

    @staticmethod
    def _initial(config: EndpointConfig) -> int:
        return int(config.variant.get("InitialInstanceCount", 1))
