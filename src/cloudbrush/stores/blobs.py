"""Bytes by key: model files, images. A directory, memory or an S3 bucket, by URL, through obstore."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from cloudbrush.domain.errors import Conflict, NotFound, Unavailable


class Blobs:
    """A blob store. Keys are made by Cloudbrush, never by a client; objects are written once."""

    def __init__(self, url: str) -> None:
        """Open the store at `url`: `file:///directory`, `memory:///` or `s3://bucket/prefix`."""
        self.url = url
        parts = urlsplit(url)
        self._root = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store = self._open(parts.scheme)

    def _open(self, scheme: str) -> ObjectStore:
        if self._root is not None:
            return LocalStore(self._root, mkdir=True)
        return MemoryStore() if scheme == "memory" else from_url(self.url)

    def put(self, key: str, data: bytes | Path, *, replace: bool = False) -> None:
        """Store bytes or a file's content under `key`, whole or not at all.

        Raises `Conflict` when the key exists and `replace` is False, `Unavailable` when writing fails.
        """
        try:
            obstore.put(self._store, key, data, mode="overwrite" if replace else "create")
        except AlreadyExistsError as error:
            raise Conflict(f"the object {key} exists already") from error
        except (BaseError, OSError) as error:
            raise Unavailable("the blob store cannot write", hint="Is the disk full or read-only?") from error

    def get(self, key: str) -> bytes:
        """The whole object. Raises `NotFound`."""
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """The object in chunks. Raises `NotFound`."""
        try:
            for chunk in obstore.get(self._store, key):
                yield bytes(chunk)
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"there is no object {key}") from error
        except BaseError as error:
            raise Unavailable("the blob store cannot be read") from error

    def keys(self, prefix: str) -> list[str]:
        """The keys below the folder `prefix`, sorted."""
        return sorted(str(entry["path"]) for batch in obstore.list(self._store, prefix) for entry in batch)

    def delete(self, prefix: str, *, keep: frozenset[str] = frozenset()) -> None:
        """Delete every object below the folder `prefix` but those in `keep`; there may be none."""
        for key in self.keys(prefix):
            if key not in keep:
                with suppress(NotFoundError, FileNotFoundError):  # someone else was faster
                    obstore.delete(self._store, key)
        if self._root is not None and not keep:
            shutil.rmtree(self._root / prefix, ignore_errors=True)  # empty folders; object stores have none

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
