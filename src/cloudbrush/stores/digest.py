"""What a model's content is known by, whether it is one file or a diffusers folder."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, or of a folder: of the list of its files with their sums, by name."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    listing = "".join(f"{sha256_of(file)} {file.relative_to(path).as_posix()}\n" for file in files_of(path))
    return hashlib.sha256(listing.encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """The files a model consists of: itself, or everything in its folder."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def version_of(path: Path) -> int:
    """A number that changes when the model on disk does: the latest mtime among its files, in nanoseconds."""
    return max((file.stat().st_mtime_ns for file in files_of(path)), default=0)
