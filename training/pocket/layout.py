"""What is where in a drawing: label maps at the latents' resolution, and the loss of heads that name them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import drawings
from .scenes import COLOURS, SHAPES, Scene

KINDS, TINTS = len(SHAPES) + 1, len(COLOURS)  # classes of a cell: shape or none, and colour
OBJECT_WEIGHT = 4.0  # a cell of an object counts so many times: most cells are background
_COLOUR, _SHAPE = list(COLOURS), list(SHAPES)


def labels(scene: Scene, height: int, width: int) -> np.ndarray:
    """uint8 (2, height, width): shape (0: none) and colour of what covers each cell, to half a cell."""
    found = np.zeros((2, height, width), np.uint8)
    found[1] = _COLOUR.index(scene.colour)
    short = min(height, width)
    for thing in scene.things[::-1] if scene.relation == "inside" else scene.things:
        radius = thing.radius * short
        away = drawings.distance(
            thing.shape, thing.x * width, thing.y * height, radius, (0, 0, width, height)
        )
        covered = away * radius < 0.4
        found[0][covered] = _SHAPE.index(thing.shape) + 1
        found[1][covered] = _COLOUR.index(thing.colour)
    return found


def targets(maps: torch.Tensor, shrink: int = 1) -> torch.Tensor:
    """Label maps (n, 2, h, w) to shares of each class, (n, KINDS + TINTS, h / shrink, w / shrink)."""
    kinds, tints = maps.long().unbind(1)
    shares = torch.cat([F.one_hot(kinds, KINDS), F.one_hot(tints, TINTS)], -1).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(shares, shrink) if shrink > 1 else shares


def head(width: int) -> nn.Module:
    """Names shape and colour of each cell from features (n, width, h, w)."""
    return nn.Sequential(nn.GroupNorm(16, width), nn.SiLU(), nn.Conv2d(width, KINDS + TINTS, 1))


def loss(logits: torch.Tensor, shares: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Cross entropy of both labels, mean over cells, cells of objects weighing more.

    `weight` (n,): how much each picture counts.
    """
    cells = 1 + (OBJECT_WEIGHT - 1) * (1 - shares[:, :1])
    cells = cells / cells.mean()
    if weight is not None:
        cells = cells * weight.view(-1, 1, 1, 1)
    value = logits.new_zeros(())
    for part in (slice(0, KINDS), slice(KINDS, None)):
        entropy = -(shares[:, part] * logits[:, part].log_softmax(1)).sum(1, keepdim=True)
        value = value + (cells * entropy).mean()
    return value


def accuracy(logits: torch.Tensor, shares: torch.Tensor) -> dict[str, float]:
    """Shape and colour named right where an object has most of the cell, and overlap of object cells."""
    kind, tint = shares[:, :KINDS].argmax(1), shares[:, KINDS:].argmax(1)
    said_kind, said_tint = logits[:, :KINDS].argmax(1), logits[:, KINDS:].argmax(1)
    mine, true = said_kind > 0, kind > 0
    return {
        "shape": float((said_kind == kind)[true].float().mean()),
        "colour": float((said_tint == tint)[true].float().mean()),
        "overlap": float((mine & true).sum() / (mine | true).sum()),
    }
