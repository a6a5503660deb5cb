"""An attempt that is followed beside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from cloudbrush.domain.invocation import WorkerEvent
from tests.providers.sagemaker.cloud import PATIENCE, until


class Following:
    """What an attempt tells, heartbeats left out."""

    def __init__(self, stream: AsyncGenerator[WorkerEvent]) -> None:
        self.events: list[WorkerEvent] = []
        self._stream = stream
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with aclosing(self._stream) as events:
            async for event in events:
                if event.kind != "heartbeat":
                    self.events.append(event)

    async def end(self) -> WorkerEvent:
        """The last event. Raises what ended the attempt otherwise."""
        async with asyncio.timeout(PATIENCE):
            await self._task
        return self.events[-1]

    async def until(self, kind: type[Any]) -> Any:
        """The first event of the kind."""
        await until(lambda: self._task.done() or any(isinstance(event, kind) for event in self.events))
        if self._task.done():
            self._task.result()
        return next(event for event in self.events if isinstance(event, kind))

    async def let_go(self) -> None:
        """Follow no longer."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def begun(door: Path) -> Path:
    """The file by which a worker says that it waits at the door."""
    return door.with_name(f"{door.name}.begun")
