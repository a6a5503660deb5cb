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

from . import autoencoder, captions, checker, drawings, export, sampling, scenes, sheets, tokens
from .scenes import Scene

TARGETS = {
    "background": 98,
    "colour": 95,
    "shape": 90,
    "place": 90,
    "count": 85,
    "relation": 80,
    "psnr": 28,
    "negative": 90,
    "emphasis": 90,
}
PROMPT_SEED = 77
BATCH = 32


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


def paint(
    model: export.Pocket,
    texts: list[str],
    seeds: list[int],
    negative: str = "",
    cfg: float = 6.0,
    steps: int = 20,
    context: torch.Tensor | None = None,
) -> np.ndarray:
    """uint8 (n, 128, 128, 3), Euler a."""
    context = model.encode(texts) if context is None else context
    other = model.encode([negative]).expand(len(texts), -1, -1)
    images = []
    for i in range(0, len(texts), BATCH):
        part = slice(i, i + BATCH)
        latents = sampling.euler_a(
            model.denoise, context[part], other[part], (16, 16), seeds[part], steps, cfg
        )
        images.append(model.decode(latents))
    pixels = ((torch.cat(images) + 1) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


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


def agreement(model: export.Pocket, todo: list[Task], seeds: list[int], cfg: float) -> dict[str, float]:
    """Percent of held-out prompts obeyed, by what was asked."""
    tally = Tally()
    chunks = [todo[i : i + BATCH] for i in range(0, len(todo), BATCH)]
    for seed in seeds:
        for number, chunk in enumerate(track(chunks, f"seed {seed}, CFG {cfg:g}")):
            numbers = [seed * 100_000 + number * BATCH + i for i in range(len(chunk))]
            for task, image in zip(
                chunk, paint(model, [t.text for t in chunk], numbers, cfg=cfg), strict=True
            ):
                tally.add(checker.agreement(task.scene, checker.look(image)))
    return tally.percent()


def emphasised(model: export.Pocket, text: str, word: str, weight: float) -> torch.Tensor:
    """The WebUI's `(word:weight)`: rows of the word's tokens scaled, then the mean of all restored."""
    line, part = tokens.ids(text), set(tokens.ids(word))
    context = model.encode([text])
    scale = torch.ones(tokens.LENGTH)
    scale[[i + 1 for i, token in enumerate(line) if token in part]] = weight
    scaled = context * scale.view(1, -1, 1).to(context.device)
    return scaled * (context.mean() / scaled.mean())


def controls(model: export.Pocket, count: int = 48) -> dict[str, float]:
    """Negative prompt and emphasis do what they say, percent of pictures."""
    seeds = list(range(count))
    colours = list(scenes.COLOURS)
    texts = [f"a {colours[i % 12]} background with a {colours[(i * 5 + 3) % 12]} star" for i in seeds]
    plain = [checker.look(i).kind for i in paint(model, texts, seeds, negative="stripes")]
    result = {"negative": 100 * float(np.mean([kind != "stripes" for kind in plain]))}
    text = "a red circle and a blue square on a white background"
    shares = []
    for weight in (0.5, 1.0, 1.5):
        context = emphasised(model, text, "red", weight).expand(count, -1, -1)
        shares.append([_red(i) for i in paint(model, [text] * count, seeds, context=context)])
    result["emphasis"] = 100 * float(
        np.mean([low <= high + 1e-3 for low, _, high in zip(*shares, strict=True)])
    )
    return result


def _red(image: np.ndarray) -> float:
    r, g, b = (image[..., i].astype(int) for i in range(3))
    return float((r - np.maximum(g, b)).clip(0).mean() / 255)


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
    scores = agreement(model, todo, list(range(seeds)), cfg=6.0) | {"psnr": psnr(model)} | controls(model)
    for cfg in (1.0, 3.0, 12.0):
        scores[f"colour at CFG {cfg:g}"] = agreement(model, todo[:64], [0], cfg)["colour"]
    report(scores, Console())
    first = todo[:64]
    images = torch.from_numpy(paint(model, [t.text for t in first], list(range(len(first)))))
    sheets.save(
        images.permute(0, 3, 1, 2).float() / 127.5 - 1,
        folder / "sheets/evaluation.png",
        8,
        [t.text for t in first],
    )
    (folder / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores
