"""Prompts to CLIP token ids the way the WebUI does it, and the compact table of ids that captions use."""

from __future__ import annotations

from functools import cache

import ftfy
import numpy as np
import torch
from instant_clip_tokenizer import Tokenizer

from . import captions

BOS, EOS, LENGTH, VOCABULARY = 49406, 49407, 77, 49408
STRANGERS = 96  # rows with frozen random embeddings: the model learns to look past words it never saw


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()


@cache
def ids(text: str) -> tuple[int, ...]:
    """Token ids without start, end and padding; raises ValueError past 75."""
    found = tuple(_tokenizer().encode(ftfy.fix_text(text)))
    if len(found) > LENGTH - 2:
        raise ValueError(f"{len(found)} tokens, at most {LENGTH - 2}: {text!r}")
    return found


def padded(found: tuple[int, ...] | list[int]) -> list[int]:
    """Start, the ids, and the end token up to 77 in all."""
    return [BOS, *found] + [EOS] * (LENGTH - 1 - len(found))


@cache
def known() -> tuple[int, ...]:
    """Ids whose embeddings are trained, ascending."""
    found = {BOS, EOS}
    for text in captions.vocabulary():
        found.update(ids(text))
    return tuple(sorted(found))


def encode(text: str) -> torch.Tensor:
    """(77,) ids in the true vocabulary."""
    return torch.tensor(padded(ids(text)))


def compact(texts: list[str], rng: np.random.Generator | None = None, strange: float = 0.0) -> torch.Tensor:
    """(n, 77) rows of the compact table; a share `strange` of the texts gets unknown words mixed in."""
    row = {token: i for i, token in enumerate(known())}
    lines = []
    for text in texts:
        line = [row[token] if token in row else len(row) + token % STRANGERS for token in ids(text)]
        if rng is not None and line and rng.random() < strange:
            for _ in range(int(rng.integers(1, 4))):
                line.insert(int(rng.integers(len(line) + 1)), len(row) + int(rng.integers(STRANGERS)))
        lines.append([row[BOS], *line] + [row[EOS]] * (LENGTH - 1 - len(line)))
    return torch.tensor(lines)
