"""A listener of engine events that can be waited for, and generations short to write."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
from PIL import Image

from cloudbrush.domain.generation import Txt2Img
from cloudbrush.engine import Broke, Done, Engine, EngineEvent, ImageReady, StepTaken

DEADLINE = 60.0  # seconds


def generation(**fields: Any) -> Txt2Img:
    """A small complete generation."""
    small = {
        "checkpoint": "tiny",
        "width": 64,
        "height": 64,
        "seed": 1,
        "steps": 3,
        "prompt": "a cat",
        "vae": None,
    }
    return Txt2Img(**{**small, **fields})


class Listener:
    """Collects the events of a run."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: EngineEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, kind: type = Done | Broke) -> EngineEvent:  # type: ignore[assignment]
        """The first event of a kind, once it is there."""
        with self._changed:
            found = self._changed.wait_for(lambda: any(isinstance(e, kind) for e in self.events), DEADLINE)
            assert found, f"no {kind} within {DEADLINE} s; heard {self.events}"
            return next(e for e in self.events if isinstance(e, kind))

    @property
    def steps(self) -> list[StepTaken]:
        return [event for event in self.events if isinstance(event, StepTaken)]

    @property
    def images(self) -> list[ImageReady]:
        """The images in their order; fails if the run broke."""
        broken = [event.error for event in self.events if isinstance(event, Broke)]
        assert not broken, broken
        return sorted((e for e in self.events if isinstance(e, ImageReady)), key=lambda image: image.index)

    @property
    def pixels(self) -> np.ndarray:
        """All images as (n, height, width, 3) numbers."""
        return np.stack([np.asarray(Image.open(io.BytesIO(image.png)), np.int16) for image in self.images])


class StopAt(Listener):
    """Cancels its run from within the event of a step, and counts what still comes."""

    def __init__(self, engine: Engine, step: int) -> None:
        super().__init__()
        self._engine = engine
        self._step = step
        self.submitted = threading.Event()

    def __call__(self, event) -> None:
        if isinstance(event, StepTaken) and event.step == self._step:
            self.submitted.wait()
            self._engine.cancel(self.handle)
        super().__call__(event)
