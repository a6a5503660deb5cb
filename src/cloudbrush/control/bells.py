"""Who waits for news and who brings it: announcing in place of polling, across threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

DISPATCH = "dispatch"  # the topic the dispatcher listens to: a job was queued, or an endpoint changed


class Bell:
    """Rings when something changed since its owner last looked; many rings before a look count as one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the owner; callable from any thread."""
        self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most so long; whether there was one."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class Bells:
    """Bells by topic: a job's id, or `DISPATCH`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening: defaultdict[str, set[Bell]] = defaultdict(set)

    @contextmanager
    def listening(self, topic: str) -> Iterator[Bell]:
        """A bell for the topic; hang it up before the first look, and no news falls in between."""
        bell = Bell()
        with self._lock:
            self._listening[topic].add(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._listening[topic].discard(bell)
                if not self._listening[topic]:
                    del self._listening[topic]

    def is_heard(self, topic: str) -> bool:
        """Whether anyone listens to the topic; callable from any thread."""
        with self._lock:
            return topic in self._listening

    def ring(self, topic: str) -> None:
        """Tell everyone who listens to the topic to look again; callable from any thread."""
        with self._lock:
            bells = list(self._listening.get(topic, ()))
        for bell in bells:
            bell.ring()
