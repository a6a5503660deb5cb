"""Time as the stand-in sees it: the wall's, or one that a test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTLING = 20  # turns of the event loop that what was woken gets before time goes on

Answer = TypeVar("Answer")


class Clock(Protocol):
    """What the stand-in asks of time."""

    def now(self) -> datetime:
        """The present, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once so many seconds have passed."""
        ...


class WallClock:
    """The time outside."""

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return once so many seconds have passed."""
        await asyncio.sleep(seconds)


class VirtualClock:
    """Stands still until `advance` is called, on the event loop of those who sleep."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """The present, in UTC."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once time was advanced so far; at once for 0 seconds."""
        if seconds <= 0:
            return
        wake = asyncio.get_running_loop().create_future()
        at = self._now + timedelta(seconds=seconds)
        heapq.heappush(self._sleepers, (at, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Let time pass: sleepers wake in order, and each may act before the next does.

        What a woken one does outside of the event loop (processes, files, network) takes no virtual time.
        """
        target = self._now + timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():  # a sleep that was cancelled is done
                wake.set_result(None)
                await _settle()
        self._now = target
        await _settle()


async def within(clock: Clock, seconds: float, work: Awaitable[Answer]) -> Answer:
    """The answer of `work`, which is cancelled when the clock's time is up. Raises `TimeoutError`."""
    working = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({working, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise TimeoutError(f"not done within {seconds:g} s")
    finally:
        alarm.cancel()
        working.cancel()
        await asyncio.gather(alarm, working, return_exceptions=True)


async def _settle() -> None:
    for _ in range(SETTLING):
        await asyncio.sleep(0)
