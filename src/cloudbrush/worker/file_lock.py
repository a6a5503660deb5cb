"""Locks on files that go with their process, however it ends: shared by readers, or one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloudbrush.domain.errors import Unavailable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """An open lock file. It is held until it is closed; each opening is a holder of its own."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def share(self) -> None:
        """Hold it beside others that share it; waits while one has it alone."""
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def own(self) -> None:
        """Hold it alone; waits for the others. What was shared is let go first, so look again afterwards."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def own_at_once(self) -> bool:
        """Hold it alone if nobody else holds it."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def lock(file: Path) -> Iterator[FileLock]:
    """A lock, not held yet; let go at the end."""
    if fcntl is None:
        raise Unavailable(
            "models of a bucket need file locks, which this system lacks", hint="Use Linux or macOS."
        )
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield FileLock(handle)
    finally:
        os.close(handle)
