"""Paints a scene: anti-aliased shapes with a soft light and shadow over a quiet background."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from .scenes import COLOURS, Scene, Thing

TONE = 0.26  # how far a background's second tone is from its colour
_GRID = 256  # resolution of the signed-distance tables
_REACH = 1.6  # the tables cover [-_REACH, _REACH] in units of the radius
Array = np.ndarray


def _polygon(points: list[tuple[float, float]], x: Array, y: Array) -> Array:
    """Signed distance to a polygon (negative inside), after Inigo Quilez."""
    distance = np.full_like(x, np.inf)
    sign = np.ones_like(x)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        distance = np.minimum(distance, (wx - ex * t) ** 2 + (wy - ey * t) ** 2)
        crosses = (ay > y) != (by > y)
        left = wx < ex * wy / (ey if ey else 1e-9)
        sign = np.where(crosses & left, -sign, sign)
    return sign * np.sqrt(distance)


def _star() -> list[tuple[float, float]]:
    return [
        (r * np.sin(a), -r * np.cos(a))
        for a, r in ((i * np.pi / 5, 1.08 if i % 2 == 0 else 0.43) for i in range(10))
    ]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return list(zip(np.sin(t) ** 3, -(y + 2.5) / 15.5, strict=True))


_CROSS = [
    (-0.3, -0.9),
    (0.3, -0.9),
    (0.3, -0.3),
    (0.9, -0.3),
    (0.9, 0.3),
    (0.3, 0.3),
    (0.3, 0.9),
    (-0.3, 0.9),
    (-0.3, 0.3),
    (-0.9, 0.3),
    (-0.9, -0.3),
    (-0.3, -0.3),
]
_SQUARE = [(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]
_TRIANGLE = [(0, -0.95), (0.95, 0.7), (-0.95, 0.7)]


@cache
def distance_table(shape: str) -> Image.Image:
    """Signed distance in radii, sampled on [-_REACH, _REACH]^2."""
    axis = (np.arange(_GRID) + 0.5) / _GRID * 2 * _REACH - _REACH
    x, y = np.meshgrid(axis, axis)
    r = np.hypot(x, y)
    table = {
        "circle": lambda: r - 0.92,
        "square": lambda: _polygon(_SQUARE, x, y) - 0.05,
        "triangle": lambda: _polygon(_TRIANGLE, x, y) - 0.03,
        "star": lambda: _polygon(_star(), x, y + 0.04) - 0.02,
        "heart": lambda: _polygon(_heart(), x, y),
        "ring": lambda: np.abs(r - 0.70) - 0.25,
        "cross": lambda: _polygon(_CROSS, x, y) - 0.03,
        "crescent": lambda: np.maximum(np.hypot(x + 0.05, y) - 0.96, 0.82 - np.hypot(x - 0.47, y + 0.12)),
    }[shape]()
    return Image.fromarray(table.astype(np.float32))


def _linear(colour: str) -> Array:
    return np.asarray(COLOURS[colour], np.float32) / 255


def tone(colour: Array, amount: float | Array) -> Array:
    """Moves a colour towards white (amount > 0) or black (amount < 0)."""
    amount = np.asarray(amount, np.float32)[..., None]
    return np.where(amount > 0, colour + (1 - colour) * amount, colour * (1 + amount))


def second_tone(name: str) -> float:
    """How far a background's pattern or gradient moves its colour."""
    return {"white": -0.09, "yellow": 0.42, "black": 0.16, "pink": 0.34, "gray": 0.22}.get(name, TONE)


def background(scene: Scene, width: int, height: int) -> Array:
    """float32 (height, width, 3) in 0..1."""
    colour, step = _linear(scene.colour), second_tone(scene.colour)
    short = min(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    if scene.kind == "plain":
        amount = np.zeros_like(x)
    elif scene.kind == "gradient":
        dx, dy = ((0, 1), (1, 1), (1, 0), (0, -1))[scene.variant]
        ramp = (dx * (x / width - 0.5) + dy * (y / height - 0.5)) / (abs(dx) + abs(dy)) + 0.5
        amount = step * 1.3 * (1 - ramp) if step > 0 else step * 1.5 * ramp
    elif scene.kind == "stripes":
        dx, dy = ((1, 0), (0, 1), (0.707, 0.707), (0.707, -0.707))[scene.variant]
        period = short / 5
        phase = ((x * dx + y * dy) / period) % 1
        amount = step * np.clip((0.25 - np.abs(phase - 0.5)) * period + 0.5, 0, 1)
    else:
        pitch = short / 5
        shift = (np.floor(y / pitch) % 2) * 0.5 * (scene.variant % 2)
        r = np.hypot((x / pitch + shift) % 1 - 0.5, (y / pitch) % 1 - 0.5) * pitch
        amount = step * np.clip(0.28 * pitch - r + 0.5, 0, 1)
    return tone(colour, amount)


def distance(shape: str, x: float, y: float, radius: float, box: tuple[int, int, int, int]) -> Array:
    """Signed distance in radii to a shape at (x, y), for each pixel of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    scale = _GRID / (2 * _REACH * radius)  # table cells per pixel
    matrix = (scale, 0, _GRID / 2 + (left - x) * scale, 0, scale, _GRID / 2 + (top - y) * scale)
    table, size = distance_table(shape), (right - left, bottom - top)
    return np.asarray(
        table.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=9)
    )


def _paint(canvas: Array, thing: Thing) -> None:
    height, width = canvas.shape[:2]
    radius = thing.radius * min(width, height)
    cx, cy = thing.x * width, thing.y * height
    reach = radius * 1.35
    x0, x1 = max(int(cx - reach), 0), min(int(cx + reach) + 1, width)
    y0, y1 = max(int(cy - reach), 0), min(int(cy + reach) + 1, height)
    if x0 >= x1 or y0 >= y1:
        return
    area, box = canvas[y0:y1, x0:x1], (x0, y0, x1, y1)
    shadow = distance(thing.shape, cx + 0.03 * radius, cy + 0.09 * radius, radius, box)
    area *= 1 - 0.20 * np.clip(0.5 - shadow / 0.22, 0, 1)[..., None]
    cover = np.clip(0.5 - distance(thing.shape, cx, cy, radius, box) * radius, 0, 1)[..., None]
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    x, y = (x + 0.5 - cx) / radius, (y + 0.5 - cy) / radius
    light = -0.10 * y - 0.05 * x + 0.16 * np.exp(-((x + 0.35) ** 2 + (y + 0.4) ** 2) / 0.22)
    if thing.colour == "black":
        light *= 0.7
    area += (tone(_linear(thing.colour), light) - area) * cover


def render(scene: Scene, width: int = 128, height: int = 128) -> Array:
    """uint8 (height, width, 3)."""
    canvas = background(scene, width, height).astype(np.float32)
    things = scene.things[::-1] if scene.relation == "inside" else scene.things
    for thing in things:
        _paint(canvas, thing)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
