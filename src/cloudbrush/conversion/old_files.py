"""Which files of a folder are models in old formats, and what they become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
NEW_SUFFIX = ".safetensors"
_DIFFUSERS_INDEX = "model_index.json"  # the parts of such a folder are no models of their own


def waiting(folder: Path) -> list[Path]:
    """The files below a folder that are to be converted: in an old format, with no new file beside them."""
    return [path for path in _below(folder) if not path.with_suffix(NEW_SUFFIX).exists()]


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not (path / _DIFFUSERS_INDEX).is_file():
            yield from _below(path)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path
