"""The real worker but for its engine, which paints nothing and does what the prompt says.

A prompt is words: `hold FILE` takes a step and waits for the file, `die FILE` ends the process unless the
file is there, `refuse` fails as an unusable model does, all else takes two steps and brings an image.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.engine import Broke, Done, ImageReady, Models, StepTaken
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker.app import create_app
from cloudbrush.worker.model_cache import ModelCache
from cloudbrush.worker.runner import Runner

GLANCE = 0.01  # seconds between looks for a file


class ScriptedEngine:
    """Runs every generation in a thread of its own."""

    serves = True

    def __init__(self) -> None:
        self._cancelled: dict[str, threading.Event] = {}

    def submit(self, generation: Txt2Img, models: Models, on_event: Callable[[Any], None]) -> str:
        handle = os.urandom(8).hex()
        cancelled = self._cancelled[handle] = threading.Event()
        threading.Thread(target=_run, args=(generation, models, on_event, cancelled), daemon=True).start()
        return handle

    def cancel(self, handle: str) -> None:
        self._cancelled[handle].set()


def _run(
    generation: Txt2Img, models: Models, on_event: Callable[[Any], None], cancelled: threading.Event
) -> None:
    assert models.checkpoint.path.read_bytes()
    word, _, file = generation.prompt.partition(" ")
    if word == "refuse":
        on_event(Broke(ModelFileError("it is a LoRA", field="checkpoint", hint="Choose another.")))
        return
    if word == "die" and not Path(file).exists():
        Path(file).touch()
        os._exit(1)
    on_event(StepTaken(1, 2, None))
    if word == "hold":
        Path(f"{file}.begun").touch()
        while not Path(file).exists() and not cancelled.is_set():
            time.sleep(GLANCE)
        if cancelled.is_set():
            Path(f"{file}.cancelled").touch()
            return
    on_event(StepTaken(2, 2, None))
    size = {"width": generation.width, "height": generation.height}
    on_event(ImageReady(index=0, png=b"\x89PNG", seed=generation.seed, infotext=generation.prompt, **size))
    on_event(Done({"denoise": 0.0}))


if __name__ == "__main__":
    blobs = Blobs(os.environ["CLOUDBRUSH_WORKER_BLOBS_URL"])
    cache = ModelCache(blobs, Path(tempfile.mkdtemp(prefix="models-")), 2**30)
    runner = Runner(ScriptedEngine(), blobs, cache)  # type: ignore[arg-type]
    uvicorn.run(create_app(runner), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
