"""The engine as others use it: submit generations from any thread, hear what happens."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from cloudbrush.domain.errors import CloudbrushError, GenerationFailed
from cloudbrush.domain.generation import Generation
from cloudbrush.engine.batching import Batcher
from cloudbrush.engine.conditioning import TextEncoding
from cloudbrush.engine.denoiser import Denoiser
from cloudbrush.engine.events import Broke, ModelFile, Models, OnEvent
from cloudbrush.engine.generate import generate
from cloudbrush.engine.materials import Loaded, Studio
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Placement
from cloudbrush.engine.models.folder import load_folder
from cloudbrush.engine.models.single_file import load_single_file
from cloudbrush.engine.preview import Preview
from cloudbrush.engine.runs import Run
from cloudbrush.engine.shelf import Shelf

log = logging.getLogger(__name__)

Handle = Run  # what `submit` returns and `cancel` takes; nothing in it is for callers

MAX_RUNS = 64  # at once; more wait
# Places of latents in one UNet call, until memory says otherwise, as rows of 512x512 pixels. CPUs gain little
# from more rows, and running out of memory there ends the process.
ROOM = 16 * 64 * 64
ROOM_ON_CPU = 4 * 64 * 64


class Engine:
    """Turns generations into images; many at once share one denoising thread.

    Device and precision are chosen once. `kept_models` stay in memory while nobody uses them.
    """

    def __init__(self, *, device: str | None = None, kept_models: int = 2, room: int | None = None) -> None:
        self._placement = Placement.best(device)
        self._room = room or (ROOM_ON_CPU if self._placement.device.type == "cpu" else ROOM)
        models = LoadedModels(self._load, kept_models)
        self._studio = Studio(models, Shelf(self._placement), Batcher(), threading.Lock())
        self._threads = ThreadPoolExecutor(MAX_RUNS, thread_name_prefix="run")
        self._lock = threading.Lock()
        self._runs: set[Run] = set()
        self._closed = False

    def submit(self, generation: Generation, models: Models, on_event: OnEvent) -> Handle:
        """Begin to paint a complete generation and return at once.

        `on_event` is called from the engine's threads, one event at a time; the last is `Done` or `Broke`.
        """
        run = Run(generation, models, on_event)
        with self._lock:
            if self._closed:
                raise GenerationFailed("the engine is closed")
            self._runs.add(run)
            self._threads.submit(self._paint, run)
        return run

    def cancel(self, handle: Handle) -> None:
        """Call a run off before its next UNet call; it ends with `Broke(Cancelled)` unless it is done."""
        handle.cancelled.set()

    def close(self) -> None:
        """Call off all runs and end all threads."""
        with self._lock:
            self._closed = True
            for run in self._runs:
                run.cancelled.set()
        self._studio.batcher.close()
        self._threads.shutdown()

    def _paint(self, run: Run) -> None:
        try:
            generate(run, self._studio)
        except CloudbrushError as error:
            run.tell(Broke(error))
        except Exception as error:
            log.exception("a run broke")
            what = f"the engine met an error it did not expect: {type(error).__name__}: {error}"
            run.tell(Broke(GenerationFailed(what[:500])))
        finally:
            run.cancelled.set()  # nothing of it may go on
            with self._lock:
                self._runs.discard(run)

    def _load(self, file: ModelFile) -> Loaded:
        load = load_folder if file.path.is_dir() else load_single_file
        checkpoint = load(file.path, name=file.name, sha256=file.sha256, placement=self._placement)
        denoiser = Denoiser(checkpoint, self._room)
        return Loaded(checkpoint, TextEncoding(checkpoint), denoiser, Preview.fit(checkpoint))
