"""Models fetched from a far store: kept in one folder that several workers may share, the oldest making room.

Beside each model `<sha256>.safetensors` lies `<sha256>.lock`: shared while the model is used, held alone
while it is fetched, into `<sha256>.part`, or dropped. `room.lock` is held by whoever makes room.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cloudbrush.domain.errors import ModelFileError, NotFound, Unavailable
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.digest import files_of, sha256_of_folder
from cloudbrush.stores.download import download
from cloudbrush.worker.file_lock import lock

PART = ".part"
SPARE = 256 * 2**20  # bytes of the disk that are left to others
GIB = 2**30


@dataclass(frozen=True)
class Kept:
    """A model in the folder, whole or on its way."""

    path: Path
    size: int  # bytes
    used: int  # nanoseconds since 1970

    @property
    def lock(self) -> Path:
        """Its lock."""
        return self.path.with_suffix(".lock")


class ModelShelf:
    """Files by sha256, at most `capacity` bytes; the least recently used goes first, one in use never."""

    def __init__(self, blobs: Blobs, directory: Path, capacity: int) -> None:
        self._blobs = blobs
        self._directory = directory
        self._capacity = capacity

    @contextmanager
    def holding(self, asset: AssetRef) -> Iterator[Path]:
        """The model's file or folder, there for as long as the context lasts; fetched if it is not there.

        Raises `ModelFileError` when it does not fit or is not what it should be, `NotFound`, `Unavailable`.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / PurePosixPath(asset.key).name
        with lock(self._directory / f"{asset.sha256}.lock") as mine:
            mine.share()
            while not _is_whole(path, asset):  # another one may drop it before it is shared again
                mine.own()
                if not _is_whole(path, asset):
                    _drop(path)
                    self._fetch(asset, path)
                mine.share()
            os.utime(path, ns=(time.time_ns(),) * 2)
            yield path

    def _fetch(self, asset: AssetRef, path: Path) -> None:
        part = self._directory / f"{asset.sha256}{PART}"
        try:
            self._make_room(asset, part)
            sha256 = self._read_folder(asset, part) if part.is_dir() else self._read_file(asset, part)
            check(asset, sha256)
            part.rename(path)
        except OSError as error:
            raise _no_disk(asset, error) from error
        finally:
            _drop(part)

    def _read_file(self, asset: AssetRef, part: Path) -> str:
        sha256 = download(self._blobs, asset.key, asset.size, part)
        _sync(part)
        return sha256

    def _read_folder(self, asset: AssetRef, part: Path) -> str:
        sums = {}
        for entry in self._blobs.entries(asset.key):
            name = PurePosixPath(entry.key.removeprefix(f"{asset.key}/"))
            if name.is_absolute() or ".." in name.parts:
                raise ModelFileError(f"{asset.kind} {asset.name!r} holds a file outside of itself")
            file = part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            sums[str(name)] = download(self._blobs, entry.key, entry.size, file)
            _sync(file)
        if not sums:
            raise NotFound(f"there is no object {asset.key}")
        return sha256_of_folder(sums)

    def _make_room(self, asset: AssetRef, part: Path) -> None:
        """Drop what was used longest ago until the model fits, and take its space on the disk.

        What others are fetching counts in full, as their files have their whole size from the beginning; a
        folder's files only have what has come.
        """
        with lock(self._directory / "room.lock") as mine:
            mine.own()
            _drop(part)  # of an earlier try
            for kept in self._kept():
                if kept.path.suffix == PART:
                    _drop_if_idle(kept)  # of a worker that died while fetching
            while reason := self._lacks(asset.size):
                if asset.size > self._capacity or not any(
                    _drop_if_idle(kept) for kept in self._kept() if kept.path.suffix != PART
                ):
                    raise _too_large(asset, reason)
            if "." not in PurePosixPath(asset.key).name:
                part.mkdir(exist_ok=True)
            else:
                _reserve(part, asset.size)

    def _lacks(self, size: int) -> str | None:
        """Why so many bytes do not fit now; None if they do."""
        taken = sum(kept.size for kept in self._kept())
        if taken + size > self._capacity:
            return f"it may hold {self._capacity / GIB:.2f} GiB, of which {taken / GIB:.2f} are taken"
        free = shutil.disk_usage(self._directory).free
        if size + SPARE > free:
            return f"the disk has {free / GIB:.2f} GiB left"
        return None

    def _kept(self) -> list[Kept]:
        """What is in the folder, the least recently used first."""
        found = []
        for path in self._directory.iterdir():
            if path.suffix in (PART, ".safetensors") or path.is_dir():
                with suppress(FileNotFoundError):  # dropped or renamed by another worker
                    size = sum(file.stat().st_size for file in files_of(path))
                    found.append(Kept(path, size, path.stat().st_mtime_ns))
        return sorted(found, key=lambda kept: kept.used)


def check(asset: AssetRef, sha256: str) -> None:
    """Raise `ModelFileError` unless the sum is the asset's."""
    if sha256 != asset.sha256:
        raise ModelFileError(
            f"the file of {asset.kind} {asset.name!r} is not the one in the catalogue: its sha256 differs",
            field=asset.kind.value,
            hint="The file changed or was damaged; refresh the model list.",
        )


def _is_whole(path: Path, asset: AssetRef) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size == asset.size)


def _drop_if_idle(kept: Kept) -> bool:
    """Drop what nobody uses or fetches; whether it is gone."""
    with lock(kept.lock) as mine:
        if not mine.own_at_once():
            return False
        _drop(kept.path)
        return True


def _drop(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def _reserve(part: Path, size: int) -> None:
    with part.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
                    raise
        file.truncate(size)


def _sync(file: Path) -> None:
    """On disk before it gets its name: what has a name is trusted, also after a power cut."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _too_large(asset: AssetRef, reason: str) -> ModelFileError:
    return ModelFileError(
        f"{asset.kind} {asset.name!r} ({asset.size / GIB:.2f} GiB) does not fit into the worker's model"
        f" cache: {reason}",
        field=asset.kind.value,
        hint="Give the worker a larger cache and disk (CLOUDBRUSH_WORKER_CACHE_BYTES), or use fewer at once.",
    )


def _no_disk(asset: AssetRef, error: OSError) -> ModelFileError | Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _too_large(asset, "the disk is full")
    return Unavailable(f"the worker's model cache cannot be written: {error.strerror}")
