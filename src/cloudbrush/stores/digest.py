"""What a model's content is known by, whether it is one file or a diffusers folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath


def sha256_of(path: Path) -> str:
    """The sha256 of a file, or of a folder: of the list of its files with their sums, by name."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return sha256_of_folder({file.relative_to(path).as_posix(): sha256_of(file) for file in files_of(path)})


def sha256_of_folder(sums: Mapping[str, str]) -> str:
    """The sha256 of a folder, from those of its files by their paths in it."""
    listing = "".join(f"{sums[name]} {name}\n" for name in sorted(sums, key=PurePosixPath))
    return hashlib.sha256(listing.encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """The files a model consists of: itself, or everything in its folder."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def version_of(path: Path) -> int:
    """A number that changes when the model on disk does: the latest mtime among its files, in nanoseconds."""
    return max((file.stat().st_mtime_ns for file in files_of(path)), default=0)
