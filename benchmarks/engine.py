"""This engine beside diffusers' own pipeline: `python -m benchmarks.engine`.

Both paint the same request with the same random checkpoint of Stable Diffusion 1.5's size, in fp32 on the
CPU, in processes that live side by side and take turns; ratios are medians over the turns. The first image is
measured from the start of a fresh process, also in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import checkpoint

NAMES = ("cloudbrush", "diffusers")
console = Console()


@dataclass
class Contestant:
    """One engine's process."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, files: tuple[Path, Path]) -> Contestant:
        """The process once it can paint."""
        command = [sys.executable, "-m", "benchmarks.contestants", name, *map(str, files)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        contestant = cls(process)
        contestant._answer()
        return contestant

    def paint(self, images: int, side: int, steps: int) -> dict[str, Any]:
        """Seconds in all and inside the model, and the peak of memory in bytes so far."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"images": images, "side": side, "steps": steps}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a contestant ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def runs(files: tuple[Path, Path], images: int, side: int, steps: int, turns: int) -> dict[str, float]:
    """Time, overhead and memory of one size of batch, as ratios to diffusers'."""
    contestants = {name: Contestant.start(name, files) for name in NAMES}
    for contestant in contestants.values():
        contestant.paint(images, side, 1)  # warm
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for turn in track(range(turns), f"batch {images}"):
        for name in NAMES if turn % 2 else reversed(NAMES):
            told[name].append(contestants[name].paint(images, side, steps))
    for contestant in contestants.values():
        contestant.end()
    ours, theirs = (told[name] for name in NAMES)
    pairs = [mine["seconds"] / other["seconds"] for mine, other in zip(ours, theirs, strict=True)]
    return {
        "seconds": median(answer["seconds"] for answer in ours),
        "time ratio": median(pairs),
        "overhead": median(1 - answer["inside"] / answer["seconds"] for answer in ours),
        "memory ratio": ours[-1]["peak"] / theirs[-1]["peak"],
    }


def first_image(files: tuple[Path, Path], side: int, turns: int) -> dict[str, float]:
    """From the start of the process to an image of one step."""
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in track(range(turns), "first image"):
        for name in NAMES if turn % 2 else reversed(NAMES):
            started = time.perf_counter()
            contestant = Contestant.start(name, files)
            contestant.paint(1, side, 1)
            seconds[name].append(time.perf_counter() - started)
            contestant.end()
    ours, theirs = (seconds[name] for name in NAMES)
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {"seconds": median(ours), "time ratio": median(pairs)}


def main() -> None:
    """Measure, print a table and keep the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with console.status("making a random checkpoint (2 GB, kept)"):
        files = checkpoint.make(asked.folder)
    found = {f"batch {n}": runs(files, n, asked.side, asked.steps, asked.turns) for n in (1, 4)}
    found["first image"] = first_image(files, asked.side, min(asked.turns, 3))
    table = Table("", "seconds", "time ratio", "overhead", "memory ratio")
    for name, numbers in found.items():
        columns = ("seconds", "time ratio", "overhead", "memory ratio")
        table.add_row(name, *(f"{numbers[c]:.3f}" if c in numbers else "" for c in columns))
    console.print(table)
    (asked.folder / "engine.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
