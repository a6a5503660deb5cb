"""Scores an exported Pocket on held-out prompts with a checker that looks at pixels, and prints one table."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from . import autoencoder, captions, checker, controls, drawings, export, painting, scenes, sheets
from .scenes import Scene

TARGETS = {
    "background": 98,
    "colour": 95,
    "shape": 90,
    "place": 90,
    "count": 85,
    "relation": 80,
    "psnr": 28,
    "stripes left open: gone where they were": 90,
    "emphasis: red grows": 90,
    "LoRA: darker at 0.5, darker still at 1": 90,
}
PROMPT_SEED = 77


@dataclass(frozen=True)
class Task:
    """A prompt and the scene it asks for."""

    scene: Scene
    text: str


def tasks(count: int) -> list[Task]:
    """Prompts that hold at least one combination no training caption ever had, layouts in turn."""
    rng = np.random.default_rng(PROMPT_SEED)
    layouts = ("single", "count", "relation", "places")
    found: list[Task] = []
    while len(found) < count:
        scene = scenes.sample_any(rng, layouts[len(found) % len(layouts)])
        front = captions.objects(scene, rng, bare=False)
        back = captions.backdrop(scene, rng)
        link = "on" if len(found) % 3 else "with"
        text = f"{front} {link} {captions.article(back)}"
        if scenes.is_held_out(scene) and "next to" not in text:
            found.append(Task(scene, text))
    return found


class Tally:
    """Shares of right answers by name."""

    def __init__(self) -> None:
        self.right: dict[str, float] = defaultdict(float)
        self.asked: dict[str, int] = defaultdict(int)

    def add(self, answers: dict[str, bool | float]) -> None:
        for name, answer in answers.items():
            self.right[name] += float(answer)
            self.asked[name] += 1

    def percent(self) -> dict[str, float]:
        return {name: 100 * self.right[name] / self.asked[name] for name in self.asked}


def agreement(
    model: export.Pocket, todo: list[Task], seeds: list[int], cfg: float, size: tuple[int, int] = (16, 16)
) -> dict[str, float]:
    """Percent of held-out prompts obeyed, by what was asked."""
    tally = Tally()
    chunks = [todo[i : i + painting.BATCH] for i in range(0, len(todo), painting.BATCH)]
    for seed in seeds:
        for number, chunk in enumerate(track(chunks, f"seed {seed}, CFG {cfg:g}")):
            numbers = [seed * 100_000 + number * painting.BATCH + i for i in range(len(chunk))]
            images = painting.paint(model, [t.text for t in chunk], numbers, cfg=cfg, size=size)
            for task, image in zip(chunk, images, strict=True):
                tally.add(checker.agreement(task.scene, checker.look(image)))
    return tally.percent()


def psnr(model: export.Pocket, count: int = 64) -> float:
    """Mean PSNR in dB of the exported file's round trip over held-out drawings."""
    images = autoencoder.validation(count)
    output = torch.cat([model.round_trip(part.to(model.device)).cpu() for part in images.split(16)])
    return float((-10 * ((output - images) / 2).square().mean(dim=(1, 2, 3)).log10()).mean())


def ground_truth(count: int) -> dict[str, float]:
    """The checker's own score on true drawings, percent."""
    rng, tally = np.random.default_rng(PROMPT_SEED + 1), Tally()
    for _ in range(count):
        scene = scenes.sample_any(rng)
        sight = checker.look(drawings.render(scene))
        tally.add(checker.agreement(scene, sight) | {"pattern": sight.kind == scene.kind})
    return tally.percent()


def report(scores: dict[str, float], console: Console) -> None:
    """Prints the table of issue-style targets."""
    table = Table("score", "measured", "target", title="Pocket")
    for name, value in scores.items():
        target = TARGETS.get(name)
        table.add_row(
            name,
            f"{value:.1f}",
            "" if target is None else f">= {target}",
            style=None if target is None else ("green" if value >= target else "red"),
        )
    console.print(table)


def evaluate(path: Path, folder: Path, count: int = 400, seeds: int = 3) -> dict[str, float]:
    """All scores; pictures and `scores.json` are written beside the training state."""
    model, todo = export.read(path), tasks(count)
    scores = agreement(model, todo, list(range(seeds)), cfg=painting.CFG) | {"psnr": psnr(model)}
    for cfg in (1.0, 3.0, 5.0, 7.0, 12.0):
        for name, value in agreement(model, todo[:64], [0], cfg).items():
            if name in ("colour", "shape"):
                scores[f"{name} at CFG {cfg:g}, 64 prompts"] = value
    for side in (8, 12, 24, 32):
        for name, value in agreement(model, todo[:32], [0], painting.CFG, (side, side)).items():
            if name in ("colour", "shape"):
                scores[f"{name} at {8 * side} pixels, 32 prompts"] = value
    scores |= controls.measure(model)
    report(scores, Console())
    grid(model, todo[:64], folder / "sheets/evaluation.png")
    (folder / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores


def grid(model: export.Pocket, todo: list[Task], path: Path) -> None:
    """A contact sheet of prompts and what was painted."""
    texts = [task.text for task in todo]
    images = torch.from_numpy(painting.paint(model, texts, list(range(len(texts)))))
    sheets.save(images.permute(0, 3, 1, 2).float() / 127.5 - 1, path, 8, texts)
