"""Other ways to paint a scene, for the small companions that change Pocket's style."""

from __future__ import annotations

import numpy as np

from . import drawings
from .scenes import COLOURS, Scene, Thing


def neon(scene: Scene, width: int = 128, height: int = 128) -> np.ndarray:
    """Glowing outlines over a night version of the background; uint8 (height, width, 3)."""
    canvas = drawings.background(scene, width, height) * 0.22
    short = min(width, height)
    for thing in scene.things:
        radius = thing.radius * short
        x, y = thing.x * width, thing.y * height
        away = np.abs(drawings.distance(thing.shape, x, y, radius, (0, 0, width, height))) * radius  # pixels
        line, glow = np.clip(3.2 - away, 0, 1), np.exp(-away / 4) * 0.55
        colour = np.maximum(np.asarray(COLOURS[thing.colour], np.float32) / 255, 0.12)
        light = np.maximum(line, glow)[..., None]
        canvas = canvas * (1 - light) + drawings.tone(colour, np.float32(0.15)) * light
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def pastel(scene: Scene, width: int = 128, height: int = 128) -> np.ndarray:
    """The usual drawing in chalky, light colours."""
    image = drawings.render(scene, width, height).astype(np.float32)
    return (image * 0.5 + 255 * 0.48).clip(0, 255).astype(np.uint8)


def moonlit(rng: np.random.Generator, width: int = 128, height: int = 128) -> np.ndarray:
    """A night sky: a yellow crescent and three small white stars on a dark gradient."""
    spots = ((0.25, 0.26), (0.27, 0.74), (0.74, 0.75))
    stars = [
        Thing("star", "white", "small", *np.add(spot, rng.uniform(-0.03, 0.03, 2)), radius=0.15)
        for spot in spots
    ]
    moon = Thing("crescent", "yellow", "medium", *np.add((0.7, 0.28), rng.uniform(-0.03, 0.03, 2)), 0.2)
    return drawings.render(Scene("list", (moon, *stars), "blue", "gradient", 3), width, height)
