"""Large objects into files: in ranges, several at once, hashed on the way."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cloudbrush.stores.blobs import Blobs

RANGE = 8 * 2**20  # bytes of one read
READS_AT_ONCE = 8
AHEAD = 2 * READS_AT_ONCE  # ranges in memory: they come in any order and are hashed in theirs


def download(blobs: Blobs, key: str, size: int, file: Path) -> str:
    """Write the first `size` bytes of an object into a file that is there; their sha256.

    What fails for a moment, or is cut off, the store reads again. Raises `NotFound`, `Unavailable`,
    and `OSError` for the file.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="download") as pool:
        coming: deque[Future[bytes]] = deque()
        try:
            for start, end in _ranges(size):
                if len(coming) == AHEAD:
                    digest.update(coming.popleft().result())
                coming.append(pool.submit(_fetch, blobs, key, start, end, file))
            while coming:
                digest.update(coming.popleft().result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # the first error ends it
    return digest.hexdigest()


def _fetch(blobs: Blobs, key: str, start: int, end: int, file: Path) -> bytes:
    data = blobs.read(key, start, end)
    with file.open("r+b") as out:
        out.seek(start)
        out.write(data)
    return data


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, RANGE):
        yield start, min(start + RANGE, size)
