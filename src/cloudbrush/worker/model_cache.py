"""Model files on this machine: fetched once from the blob store, checked, dropped when space runs out."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloudbrush.domain.errors import ModelFileError, NotFound
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.digest import sha256_of, version_of

CHUNK = 2**20  # bytes


class ModelCache:
    """Files by sha256, at most `capacity` bytes; the least recently used goes first, one in use never."""

    def __init__(self, blobs: Blobs, directory: Path, capacity: int) -> None:
        self._blobs = blobs
        self._directory = directory
        self._capacity = capacity
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by use, oldest first
        self._in_use: Counter[str] = Counter()
        self._verified: set[tuple[str, int]] = set()  # near files: sha256 and version on disk

    @contextmanager
    def holding(self, asset: AssetRef) -> Iterator[Path]:
        """The asset's file, there for as long as the context lasts. Raises `ModelFileError`, `NotFound`."""
        with self._lock:
            self._in_use[asset.sha256] += 1
        try:
            yield self._near(asset) or self._fetched(asset)
        finally:
            with self._lock:
                self._in_use[asset.sha256] -= 1

    def _near(self, asset: AssetRef) -> Path | None:
        """A directory store on this machine needs no copy; its file is checked once per change."""
        path = self._blobs.local_path(asset.key)
        if path is None:
            return None
        if not path.exists():
            raise NotFound(f"the file of {asset.kind} {asset.name!r} is gone", field=asset.kind.value)
        path = path.resolve()
        version = (asset.sha256, version_of(path))
        if version not in self._verified:
            _check(asset, sha256_of(path))
            self._verified.add(version)
        return path

    def _fetched(self, asset: AssetRef) -> Path:
        path = self._directory / f"{asset.sha256}.safetensors"
        with self._lock:
            turn = self._fetching.setdefault(asset.sha256, threading.Lock())
        with turn:
            if asset.sha256 not in self._sizes:
                self._make_room(asset)
                self._fetch(asset, path)
        with self._lock:
            self._sizes[asset.sha256] = asset.size
            self._sizes.move_to_end(asset.sha256)
        return path

    def _fetch(self, asset: AssetRef, path: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        handle, partial = tempfile.mkstemp(dir=self._directory, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in self._blobs.stream(asset.key):
                    digest.update(chunk)
                    file.write(chunk)
            _check(asset, digest.hexdigest())
            os.replace(partial, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)

    def _make_room(self, asset: AssetRef) -> None:
        with self._lock:
            idle = [sha256 for sha256 in self._sizes if not self._in_use[sha256]]
            while sum(self._sizes.values()) + asset.size > self._capacity:
                if not idle:
                    raise ModelFileError(
                        f"{asset.kind} {asset.name!r} does not fit into the worker's model cache",
                        field=asset.kind.value,
                        hint="Give the worker a larger cache (CLOUDBRUSH_WORKER_CACHE_BYTES).",
                    )
                oldest = idle.pop(0)
                del self._sizes[oldest]
                (self._directory / f"{oldest}.safetensors").unlink(missing_ok=True)


def _check(asset: AssetRef, sha256: str) -> None:
    if sha256 != asset.sha256:
        raise ModelFileError(
            f"the file of {asset.kind} {asset.name!r} is not the one in the catalogue: its sha256 differs",
            field=asset.kind.value,
            hint="The file changed or was damaged; refresh the model list.",
        )
