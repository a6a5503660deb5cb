"""Pictures of prompts from an exported Pocket, in batches."""

from __future__ import annotations

import numpy as np
import torch

from . import export, sampling

BATCH = 32
CFG = 5.0


def paint(
    model: export.Pocket,
    texts: list[str],
    seeds: list[int],
    negative: str = "",
    cfg: float = CFG,
    steps: int = 20,
    context: torch.Tensor | None = None,
    size: tuple[int, int] = (16, 16),
) -> np.ndarray:
    """uint8 (n, height, width, 3), Euler a; `context` replaces the encoded texts, `size` is the latents'."""
    context = model.encode(texts) if context is None else context
    other = model.encode([negative]).expand(len(texts), -1, -1)
    images = []
    for i in range(0, len(texts), BATCH):
        part = slice(i, i + BATCH)
        latents = sampling.euler_a(model.denoise, context[part], other[part], size, seeds[part], steps, cfg)
        images.append(model.decode(latents))
    pixels = ((torch.cat(images) + 1) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
