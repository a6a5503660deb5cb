"""One training run: folder, device, progress, and checkpoints that survive a kill at any moment."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from . import sheets

SAVE_SECONDS = 180


@dataclass
class State:
    """Where a stage stands; `seconds` counts training time only, over all resumptions."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    _noted: float = field(default_factory=time.monotonic)

    def advance(self, seconds: float, loss: float) -> None:
        self.step += 1
        self.seconds += seconds
        self.losses.append(loss)

    def due(self, every: float) -> bool:
        """True about once in `every` seconds."""
        if time.monotonic() - self._noted < every:
            return False
        self._noted = time.monotonic()
        return True

    def note(self, **values: float) -> None:
        self.notes.update(values)

    @property
    def loss(self) -> float:
        recent = self.losses[-50:]
        return sum(recent) / max(len(recent), 1)


@dataclass(frozen=True)
class Run:
    """Shared by all stages."""

    folder: Path
    seed: int = 0
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    def autocast(self, enabled: bool = True) -> contextlib.AbstractContextManager:
        """bfloat16 where the hardware multiplies it faster than float32."""
        return torch.autocast(self.device, torch.bfloat16, enabled=enabled and _fast_bfloat16(self.device))

    def path(self, stage: str) -> Path:
        return self.folder / f"{stage}.pt"

    def save(self, stage: str, state: State, **parts: object) -> None:
        """Replaces the checkpoint in one move, so a kill leaves the old or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {name: part.state_dict() for name, part in parts.items()}
        record["state"] = {
            "step": state.step,
            "seconds": state.seconds,
            "losses": state.losses,
            "notes": state.notes,
        }
        draft = self.path(stage).with_suffix(".draft")
        torch.save(record, draft)
        os.replace(draft, self.path(stage))
        sheets.curve(state.losses, self.folder / "sheets" / f"{stage}-loss.png")

    def resume(self, stage: str, **parts: object) -> State:
        """Loads the last checkpoint of a stage into its parts, if there is one."""
        if not self.path(stage).exists():
            return State()
        record = torch.load(self.path(stage), weights_only=True, map_location=self.device)
        for name, part in parts.items():
            part.load_state_dict(record[name])
        return State(**record["state"])

    def state(self, stage: str) -> State:
        """Where the last checkpoint of a stage stands."""
        path = self.path(stage)
        return (
            State(**torch.load(path, weights_only=True, map_location="cpu")["state"])
            if path.exists()
            else State()
        )

    @contextlib.contextmanager
    def progress(self, stage: str, steps: int, state: State) -> Iterator[Callable[[State], None]]:
        """A bar on a terminal; a line every half minute in a log file."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task(stage, total=steps, completed=state.step)
            printed = time.monotonic()

            def show(state: State) -> None:
                nonlocal printed
                notes = " ".join(f"{k} {v:.2f}" for k, v in state.notes.items())
                text = f"{stage} step {state.step} loss {state.loss:.4f} {notes}"
                bar.update(task, completed=state.step, description=text)
                if not bar.console.is_terminal and time.monotonic() - printed > 30:
                    printed = time.monotonic()
                    print(f"{time.strftime('%H:%M:%S')} {text} of {steps}, {state.seconds:.0f} s", flush=True)

            yield show


def _fast_bfloat16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    capability = Path("/proc/cpuinfo")
    return device == "cpu" and capability.exists() and "avx512_bf16" in capability.read_text()
