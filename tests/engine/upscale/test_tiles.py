"""Tiles of large images: where they lie, and how neighbours fade into each other (specification 3.5)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cloudbrush.engine.upscale.tiles import OVERLAP, TILE, enlarged_by_tiles, starts


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [0]), (192, [0]), (193, [0, 1]), (376, [0, 184]), (377, [0, 92, 185]), (400, [0, 104, 208])],
)
def test_tiles_lie_evenly(length: int, expected: list[int]) -> None:
    assert starts(length) == expected


@given(st.integers(1, 5000))
def test_tiles_cover_a_side_and_overlap_enough(length: int) -> None:
    found = starts(length)
    assert found[0] == 0
    assert found[-1] + min(TILE, length) == length
    for one, other in pairwise(found):
        assert one < other <= one + TILE - OVERLAP


@pytest.mark.parametrize(("width", "height"), [(1, 1), (192, 192), (193, 5), (500, 300), (61, 401)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_where_tiles_agree_no_seam_is_left(width: int, height: int, scale: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)

    def repeated(tile: np.ndarray) -> np.ndarray:
        assert max(tile.shape[:2]) <= TILE
        return tile.repeat(scale, 0).repeat(scale, 1)

    assert (enlarged_by_tiles(image, scale, repeated) == image.repeat(scale, 0).repeat(scale, 1)).all()


def test_where_tiles_differ_the_later_fades_in() -> None:
    """Pasted with Pillow, as the WebUI does it: over the first 8 pixels of a tile, times the scale."""
    scale, width, height = 2, 400, 250
    image = np.zeros((height, width, 3), np.uint8)
    greys = iter(range(20, 250, 37))
    ours = enlarged_by_tiles(
        image, scale, lambda t: np.full((t.shape[0] * scale, t.shape[1] * scale, 3), next(greys), np.uint8)
    )
    greys = iter(range(20, 250, 37))
    fading, tile = OVERLAP * scale, TILE * scale
    ramp = (np.arange(fading) * 255 / fading).astype(np.uint8)
    whole = Image.new("RGB", (width * scale, height * scale))
    for top in (0, 58 * scale):
        row = Image.new("RGB", (width * scale, tile))
        for left in (0, 104 * scale, 208 * scale):
            part = Image.new("RGB", (tile, tile), (next(greys),) * 3)
            if left:
                row.paste(
                    part.crop((0, 0, fading, tile)), (left, 0), Image.fromarray(np.tile(ramp, (tile, 1)))
                )
                row.paste(part.crop((fading, 0, tile, tile)), (left + fading, 0))
            else:
                row.paste(part, (0, 0))
        if top:
            mask = Image.fromarray(np.tile(ramp[:, None], (1, width * scale)))
            whole.paste(row.crop((0, 0, width * scale, fading)), (0, top), mask)
            whole.paste(row.crop((0, fading, width * scale, tile)), (0, top + fading))
        else:
            whole.paste(row, (0, 0))
    assert np.abs(ours.astype(int) - np.array(whole)).max() <= 2  # Pillow's masks have 8 bits
