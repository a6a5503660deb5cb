"""Models kept in memory: the least recently used goes first, one in use never."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from cloudbrush.engine.events import ModelFile

Model = TypeVar("Model")


class LoadedModels(Generic[Model]):
    """Loads each file once, whoever asks first; keeps `capacity` models, more only while all are in use."""

    def __init__(self, load: Callable[[ModelFile], Model], capacity: int) -> None:
        self._load = load
        self._capacity = capacity
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: OrderedDict[str, Model] = OrderedDict()  # by use, oldest first
        self._users: Counter[str] = Counter()

    @contextmanager
    def using(self, file: ModelFile) -> Iterator[Model]:
        """The model of `file`, in memory for as long as the context lasts; raises `ModelFileError`."""
        with self._lock:
            self._users[file.sha256] += 1
            turn = self._loading.setdefault(file.sha256, threading.Lock())
        try:
            with turn:
                model = self._known(file) or self._loaded_now(file)
            yield model
        finally:
            with self._lock:
                self._users[file.sha256] -= 1
                self._evict(self._capacity)

    def _known(self, file: ModelFile) -> Model | None:
        with self._lock:
            if file.sha256 in self._loaded:
                self._loaded.move_to_end(file.sha256)
            return self._loaded.get(file.sha256)

    def _loaded_now(self, file: ModelFile) -> Model:
        with self._lock:
            self._evict(self._capacity - 1)  # room for the one to come
        model = self._load(file)
        with self._lock:
            self._loaded[file.sha256] = model
        return model

    def _evict(self, capacity: int) -> None:
        idle = [sha256 for sha256 in self._loaded if not self._users[sha256]]
        for sha256 in idle[: max(0, len(self._loaded) - capacity)]:
            del self._loaded[sha256]
