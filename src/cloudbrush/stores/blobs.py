"""Bytes by key: model files, images. A directory, memory or an S3 bucket, by URL, through obstore."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from cloudbrush.domain.errors import CloudbrushError, Conflict, InvalidInput, NotFound, Unavailable
from cloudbrush.stores import multipart, s3

SCHEMES = ("file", "memory", "s3")
SHORT_LIFE = timedelta(minutes=10)  # of a signed URL
LONGEST_LIFE = timedelta(hours=1)
DELETED_AT_ONCE = 1000  # S3's limit


@dataclass(frozen=True)
class Entry:
    """One object of a list."""

    key: str
    size: int  # bytes
    tag: str | None  # another one when the content is another


class Blobs:
    """A blob store. Keys are made by Cloudbrush, never by a client; objects are written once."""

    def __init__(self, url: str) -> None:
        """Open the store at `url`: `file:///directory`, `memory:///` or `s3://bucket/prefix?region=...`.

        Raises `InvalidInput` for any other, and what `s3.Bucket.open` raises.
        """
        self.url = url
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise InvalidInput(
                f"a blob store cannot be at {parts.scheme}:",
                field="CLOUDBRUSH_BLOBS_URL",
                hint="Name file:///directory or s3://bucket/prefix.",
            )
        self._root = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._bucket = s3.Bucket(s3.Place.read(url)) if parts.scheme == "s3" else None
        self._store = self._open()

    def _open(self) -> ObjectStore:
        if self._root is not None:
            return LocalStore(self._root, mkdir=True)
        return self._bucket.open() if self._bucket else MemoryStore()

    @property
    def is_cloud(self) -> bool:
        """Whether the store is a bucket, which workers anywhere can reach."""
        return self._bucket is not None

    def put(self, key: str, data: bytes | Path, *, replace: bool = False) -> None:
        """Store bytes or a file's content under `key`, whole or not at all.

        Raises `Conflict` when the key exists and `replace` is False, `Unavailable` when writing fails.
        """
        if self._bucket and isinstance(data, Path):
            self.upload(key, data, replace=replace)
            return
        with self._speaking("write", key):
            obstore.put(self._store, key, data, mode="overwrite" if replace else "create")

    def upload(
        self,
        key: str,
        file: Path,
        on_progress: multipart.OnProgress = lambda _done: None,
        *,
        replace: bool = False,
    ) -> None:
        """Put a file that may be large, telling how many bytes have arrived.

        In a bucket, what was cut off goes on where it was. Raises what `put` raises.
        """
        with self._speaking("write", key):
            size = file.stat().st_size
            if self._bucket and size > multipart.PART:
                place = self._bucket.place
                sending = multipart.Upload(self._bucket.client, place.bucket, place.name(key), file)
                sending.run(on_progress, replace=replace)
            else:
                content = file.read_bytes() if self._bucket else file
                obstore.put(self._store, key, content, mode="overwrite" if replace else "create")
                on_progress(size)

    def get(self, key: str) -> bytes:
        """The whole object. Raises `NotFound`, `Unavailable`."""
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """The object in chunks. Raises `NotFound`, `Unavailable`."""
        with self._speaking("read", key):
            for chunk in obstore.get(self._store, key):
                yield bytes(chunk)

    def read(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`. Raises `NotFound`, `Unavailable`."""
        with self._speaking("read", key):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def entries(self, prefix: str) -> list[Entry]:
        """The objects below the folder `prefix`, by key. Raises `Unavailable`."""
        with self._speaking("list", prefix):
            found = [one for batch in obstore.list(self._store, prefix) for one in batch]
        return sorted(
            (Entry(str(one["path"]), int(one["size"]), one["e_tag"]) for one in found),
            key=lambda entry: entry.key,
        )

    def keys(self, prefix: str) -> list[str]:
        """The keys below the folder `prefix`, sorted. Raises `Unavailable`."""
        return [entry.key for entry in self.entries(prefix)]

    def exists(self, key: str) -> bool:
        """Whether there is an object `key`. Raises `Unavailable`."""
        try:
            with self._speaking("read", key):
                obstore.head(self._store, key)
        except NotFound:
            return False
        return True

    def delete(self, prefix: str, *, keep: frozenset[str] = frozenset()) -> None:
        """Delete every object below the folder `prefix` but those in `keep`; there may be none."""
        doomed = [key for key in self.keys(prefix) if key not in keep]
        at_once = DELETED_AT_ONCE if self._bucket else 1
        for start in range(0, len(doomed), at_once):
            with suppress(NotFound), self._speaking("delete", prefix):  # someone else may be faster
                obstore.delete(self._store, doomed[start : start + at_once])
        if self._root is not None and not keep:
            shutil.rmtree(self._root / prefix, ignore_errors=True)  # empty folders; object stores have none

    def sign(
        self, key: str, method: Literal["GET", "PUT"] = "GET", life: timedelta = SHORT_LIFE
    ) -> str | None:
        """A URL by which anyone may read or write this one object for a while; only buckets have any."""
        if not isinstance(self._store, S3Store):
            return None
        with self._speaking("read" if method == "GET" else "write", key):
            return obstore.sign(self._store, method, key, min(life, LONGEST_LIFE))

    def local_path(self, key: str) -> Path | None:
        """The file that holds the object when the store is a directory on this machine, else None."""
        return None if self._root is None else self._root / key

    def adopt(self, key: str, file: Path) -> None:
        """Make a file on this machine readable under `key`: linked into a directory store, else uploaded."""
        target = self.local_path(key)
        if target is None:
            self.put(key, file, replace=True)
        elif not (target.is_symlink() and target.readlink() == file):
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f"{target.name}.{uuid4().hex}")
            fresh.symlink_to(file)
            fresh.replace(target)  # whoever reads finds the old link or the new one

    @contextmanager
    def _speaking(self, doing: s3.Doing, key: str) -> Iterator[None]:
        """Errors of the store in our words."""
        try:
            yield
        except CloudbrushError:
            raise
        except AlreadyExistsError as error:
            raise Conflict(f"the object {key} exists already") from error
        except Exception as error:
            ours = self._translated(error, doing, key)
            if ours is None:
                raise
            raise ours from error

    def _translated(self, error: Exception, doing: s3.Doing, key: str) -> CloudbrushError | None:
        """The error in our words; None for one that is a fault of the program."""
        if isinstance(error, OSError) and error.filename is not None:  # a file of ours, not an object
            return Unavailable(f"{Path(str(error.filename)).name} cannot be read: {error.strerror}")
        if self._bucket and s3.is_foreign(error):
            return s3.translated(error, doing, self._bucket.place.bucket, key)
        if isinstance(error, NotFoundError | FileNotFoundError):
            return NotFound(f"there is no object {key}")
        if isinstance(error, BaseError | OSError):
            hint = "Is the disk full or read-only?" if doing == "write" else None
            return Unavailable(f"the blob store does not {doing}", hint=hint)
        return None
