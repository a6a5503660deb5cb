"""Models kept in memory: the least recently used goes first, one in use never."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Generic, TypeVar

Source = TypeVar("Source")  # a file, or what else a model is made from
Model = TypeVar("Model")


class LoadedModels(Generic[Source, Model]):
    """Loads each file once, whoever asks first; keeps `capacity` models, more only while all are in use.

    Sources with equal `key` are the same model; it is the file's content unless said otherwise.
    """

    def __init__(
        self,
        load: Callable[[Source], Model],
        capacity: int,
        key: Callable[[Source], Hashable] = attrgetter("sha256"),
    ) -> None:
        self._load = load
        self._key = key
        self._capacity = capacity
        self._lock = threading.Lock()
        self._loading: dict[Hashable, threading.Lock] = {}
        self._loaded: OrderedDict[Hashable, Model] = OrderedDict()  # by use, oldest first
        self._users: Counter[Hashable] = Counter()

    @contextmanager
    def using(self, source: Source) -> Iterator[Model]:
        """The model of `source`, in memory for as long as the context lasts; raises `ModelFileError`."""
        key = self._key(source)
        with self._lock:
            self._users[key] += 1
            turn = self._loading.setdefault(key, threading.Lock())
        try:
            with turn:
                model = self._known(key) or self._loaded_now(key, source)
            yield model
        finally:
            with self._lock:
                self._users[key] -= 1
                self._evict(self._capacity)

    def _known(self, key: Hashable) -> Model | None:
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
            return self._loaded.get(key)

    def _loaded_now(self, key: Hashable, source: Source) -> Model:
        with self._lock:
            self._evict(self._capacity - 1)  # room for the one to come
        model = self._load(source)
        with self._lock:
            self._loaded[key] = model
        return model

    def _evict(self, capacity: int) -> None:
        idle = [key for key in self._loaded if not self._users[key]]
        for key in idle[: max(0, len(self._loaded) - capacity)]:
            del self._loaded[key]
