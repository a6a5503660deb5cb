"""The .env file that settings are read from: some lines changed, the others kept."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cloudbrush.domain.errors import Unavailable

LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")


def values(file: Path) -> dict[str, str]:
    """What the file sets, as it is written there."""
    found = (LINE.match(line) for line in _lines(file))
    return {match[1]: match[2] for match in found if match}


def update(file: Path, changes: Mapping[str, str | None]) -> bool:
    """Set names to values, or drop names whose value is None; whether anything changed.

    The file is replaced in one piece and readable by its owner only. Raises `Unavailable`.
    """
    open_changes = dict(changes)
    lines: list[str] = []
    for line in _lines(file):
        match = LINE.match(line)
        if match is None or match[1] not in changes:
            lines.append(line)
        elif (value := open_changes.pop(match[1], None)) is not None:
            lines.append(f"{match[1]}={value}")
    lines += [f"{name}={value}" for name, value in open_changes.items() if value is not None]
    if lines == _lines(file):
        return False
    _replace(file, "".join(f"{line}\n" for line in lines))
    return True


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"{file} cannot be read: {error}") from error


def _replace(file: Path, text: str) -> None:
    target = file.resolve()  # a link stays a link
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".env-")  # mkstemp's mode is 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            Path(name).replace(target)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error.strerror}") from error
