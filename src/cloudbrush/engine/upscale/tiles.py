"""Large images in tiles that a network can take, blended where they overlap (specification 3.5)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

TILE = 192  # pixels a side
OVERLAP = 8  # pixels, at least

Pixels = npt.NDArray[np.uint8]  # (height, width, 3)
Enlarge = Callable[[Pixels], Pixels]


def enlarged_by_tiles(image: Pixels, scale: int, enlarge: Enlarge) -> Pixels:
    """The image `scale` times as large, each tile enlarged by itself; neighbours fade into each other."""
    height, width = image.shape[:2]
    result = np.zeros((height * scale, width * scale, 3), np.uint8)
    rows, columns = starts(height), starts(width)
    for top in rows:
        strip = np.zeros((min(TILE, height) * scale, width * scale, 3), np.float32)
        for left in columns:
            tile = enlarge(image[top : top + TILE, left : left + TILE])
            _blend(strip.swapaxes(0, 1), tile.swapaxes(0, 1), left * scale, scale)
        _blend(result, strip, top * scale, scale)
    return result


def starts(length: int) -> list[int]:
    """Where tiles begin along a side: evenly, the last one at its end."""
    if length <= TILE:
        return [0]
    count = math.ceil((length - OVERLAP) / (TILE - OVERLAP))
    return [min(int(number * (length - TILE) / (count - 1)), length - TILE) for number in range(count)]


def _blend(whole: np.ndarray, part: np.ndarray, start: int, scale: int) -> None:
    """Lay a part onto the whole along their first axis, fading in over what they overlap at least."""
    fading = OVERLAP * scale if start else 0
    share = (np.arange(fading, dtype=np.float32) / max(1, fading))[:, None, None]
    before = whole[start : start + fading]
    mixed = before + (part[:fading] - before.astype(np.float32)) * share
    blended = np.concatenate([mixed, part[fading:]])
    whole[start : start + len(part)] = blended.round() if whole.dtype == np.uint8 else blended
