"""Teaches the text encoder to read before it sees a picture.

A throw-away decoder draws label maps from captions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import captions, layout, network, optim, quick, scenes, tokens
from .run import Run

BATCH, STRANGE = 128, 0.08
CELLS = 8  # the decoder's maps are so many cells high and wide
SCENES = 20_000
VALIDATION_SEED = 1_000_007


class Block(nn.Module):
    """Cross attention to the text and a two-layer network, both residual."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.pair = nn.Linear(network.TEXT_WIDTH, 2 * width)
        self.net = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.query(self.norm1(x)), *self.pair(context).chunk(2, -1))
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.net(self.norm2(x))


class Reader(nn.Module):
    """Text-encoder output (n, tokens, 64) to logits of label maps (n, classes, CELLS, CELLS)."""

    def __init__(self, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.cells = nn.Parameter(torch.randn(CELLS * CELLS, width) * 0.3)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.end = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, layout.KINDS + layout.TINTS))

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        x = self.cells.expand(len(context), -1, -1)
        for block in self.blocks:
            x = block(x, context)
        return self.end(x).transpose(1, 2).unflatten(2, (CELLS, CELLS))


@dataclass
class Shelf:
    """Scenes with their label maps, made as they are asked for and kept."""

    seed: int
    held_out: bool = False
    known: dict[int, tuple[scenes.Scene, np.ndarray]] = field(default_factory=dict)

    def get(self, index: int) -> tuple[scenes.Scene, np.ndarray]:
        if index not in self.known:
            rng = np.random.default_rng([self.seed, 3, index])
            scene = scenes.sample_any(rng) if self.held_out else scenes.sample(rng)
            while self.held_out and not scenes.is_held_out(scene):
                scene = scenes.sample_any(rng)
            self.known[index] = scene, layout.labels(scene, 2 * CELLS, 2 * CELLS)
        return self.known[index]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of tokens, cut after the longest caption, and shares (n, classes, CELLS, CELLS)."""
        chosen = [self.get(int(i)) for i in rng.integers(0, SCENES, count)]
        texts = [captions.caption(scene, rng) for scene, _ in chosen]
        rows = tokens.compact(texts, rng, 0 if self.held_out else STRANGE)
        longest = int((rows != rows[0, -1]).sum(1).max()) + 1
        maps = torch.from_numpy(np.stack([labels for _, labels in chosen]))
        return rows[:, :longest], layout.targets(maps, 2)


@torch.no_grad()
def score(model: network.Denoiser, reader: Reader, count: int = 512) -> dict[str, float]:
    """How well label maps are drawn from captions of held-out combinations."""
    rows, shares = Shelf(VALIDATION_SEED, held_out=True).draw(np.random.default_rng(1), count)
    return layout.accuracy(reader(model.encode(rows)), shares)


def train(run: Run, steps: int, lr: float = 3e-3) -> None:
    """Trains text encoder and reader for so many steps in all."""
    torch.manual_seed(run.seed + 2)
    model, reader, shelf = network.Denoiser(), Reader(), Shelf(run.seed)
    quick.quicken(model.text)
    optimiser = optim.build([model.text, reader], lr)
    average = optim.Average(model.text, 0.99)
    parts = {"text": model.text, "reader": reader, "optimiser": optimiser, "average": average.module}
    state = run.resume("text", **parts)
    average.updates = state.step
    with run.progress("text", steps, state) as bar:
        while state.step < steps:
            started = time.monotonic()
            for group in optimiser.param_groups:
                group["lr"] = lr * optim.cosine(state.step / steps)
            rng = np.random.default_rng([run.seed, 3, 1, state.step])
            rows, shares = shelf.draw(rng, BATCH)
            with run.autocast():
                logits = reader(model.encode(rows))
            value = layout.loss(logits.float(), shares)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            average.update(model.text)
            state.advance(time.monotonic() - started, value.item())
            bar(state)
            if state.due(every=60):
                state.note(**score(model, reader))
                run.save("text", state, **parts)
    state.note(**score(model, reader))
    run.save("text", state, **parts)


def load(run: Run) -> dict[str, torch.Tensor]:
    """The averaged weights of the text encoder that has learnt to read."""
    return torch.load(run.path("text"), weights_only=True, map_location="cpu")["average"]
