"""A control plane whose workers are scripted: what tests of control and API stand in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from cloudbrush.control.dispatch import Dispatcher
from cloudbrush.control.plane import ControlPlane
from cloudbrush.control.submit import submit
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.job import Job, JobState
from cloudbrush.providers.fake import FakeProvider, Script
from tests.builders import FakeClock

DEADLINE = 10.0  # seconds


@dataclass
class World:
    """One control plane, its clock and its scripted provider."""

    plane: ControlPlane
    provider: FakeProvider
    clock: FakeClock

    def submit(self, prompt: str = "a red circle", *, owner: str = "ann", **changes: object) -> Job:
        asked = Txt2Img(prompt=prompt, **changes)  # type: ignore[arg-type]
        return submit(self.plane, asked, owner=owner, endpoint="pocket")

    def limit(self, **limits: timedelta) -> None:
        """Make the plane's limits others."""
        self.plane = replace(self.plane, limits=replace(self.plane.limits, **limits))

    def job(self, job_id: str) -> Job:
        return self.plane.stores.jobs.get(job_id)

    async def until(self, job_id: str, *states: JobState) -> Job:
        """The job once it is in one of the states."""
        async with asyncio.timeout(DEADLINE):
            with self.plane.bells.listening(job_id) as bell:
                while (job := self.job(job_id)).state not in states:
                    await bell.wait(0.05)
        return job

    @asynccontextmanager
    async def dispatching(self, script: Script) -> AsyncIterator[Dispatcher]:
        """A running dispatcher whose workers follow the script."""
        self.provider.script = script
        dispatcher = Dispatcher(self.plane)
        task = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
            await task
