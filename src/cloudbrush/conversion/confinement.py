"""What the reading process may not do, from the moment it has its two files: anything else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType

ROOM = 2**30  # bytes of memory beside the mapped file
SECONDS = 60  # of computing, and more for large files
BYTES_A_SECOND = 2 * 10**7
_ALLOWED = frozenset({"cpython._PySys_ClearAuditHooks"})  # the interpreter's own, at its end


def confine(read: int, written: int) -> None:
    """For the rest of the process: no file, socket, process or module more, bounded memory, time and output.

    `read` and `written` are the bytes of the file that is mapped and the most the new one may have. Where the
    system has limits it enforces them too.
    """
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        _limit(resource, read, written)
    sys.addaudithook(_refuse)


def seconds(size: int) -> int:
    """How long a file of this size may take."""
    return SECONDS + size // BYTES_A_SECOND


def _limit(resource: ModuleType, read: int, written: int) -> None:
    limits: Mapping[str, int] = {
        "RLIMIT_AS": read + ROOM,
        "RLIMIT_CPU": seconds(read),
        "RLIMIT_FSIZE": written,
        "RLIMIT_NOFILE": 0,  # those open stay open
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    for name, limit in limits.items():
        if (number := getattr(resource, name, None)) is not None:
            most = resource.getrlimit(number)[1]
            limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
            with suppress(ValueError):  # macOS takes no limit below what is in use
                resource.setrlimit(number, (limit, limit))


def _refuse(event: str, _: object) -> None:
    if event not in _ALLOWED:
        raise PermissionError(f"{event} is not allowed here")
