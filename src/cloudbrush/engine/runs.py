"""A run: one generation being painted, and the way it tells what happens."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from cloudbrush.domain.generation import Generation
from cloudbrush.engine.events import Broke, Cancelled, Done, EngineEvent, Models, OnEvent

log = logging.getLogger(__name__)

PREVIEW_SECONDS = 0.25  # between two previews of a run


class Run:
    """One generation on its way through the engine; its events come one at a time, the last is its end."""

    def __init__(self, generation: Generation, models: Models, on_event: OnEvent) -> None:
        self.generation = generation
        self.models = models
        self.cancelled = threading.Event()
        self.seconds: dict[str, float] = defaultdict(float)
        self._on_event = on_event
        self._lock = threading.Lock()
        self._ended = False
        self._previewed = -PREVIEW_SECONDS

    def tell(self, event: EngineEvent) -> None:
        """Deliver an event, unless the end was told already. What the listener raises is its own affair."""
        with self._lock:
            if self._ended:
                return
            self._ended = isinstance(event, Done | Broke)
            try:
                self._on_event(event)
            except Exception:
                log.exception("a listener of engine events raised")

    def check(self) -> None:
        """Raise `Cancelled` if the run was called off."""
        if self.cancelled.is_set():
            raise Cancelled("the generation was cancelled")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside towards a stage; begin only if the run was not called off."""
        self.check()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def preview_due(self) -> bool:
        """Whether it is time for another preview; the answer yes starts the next wait."""
        now = time.monotonic()
        if now - self._previewed < PREVIEW_SECONDS:
            return False
        self._previewed = now
        return True
