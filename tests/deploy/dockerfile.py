"""The Dockerfile as Docker reads it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    rest: str

    @property
    def form(self) -> list[str]:
        """What the exec form lists; fails for the shell form."""
        words: list[str] = json.loads(self.rest)
        return words


def instructions() -> list[Instruction]:
    """All of the Dockerfile's, in order."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


def environment() -> dict[str, str]:
    """What all its ENV instructions set."""
    pairs = (shlex.split(found.rest) for found in instructions() if found.name == "ENV")
    return dict(word.split("=", 1) for words in pairs for word in words)


def entry_point() -> list[str]:
    """The program it starts."""
    (found,) = (found for found in instructions() if found.name == "ENTRYPOINT")
    return found.form
