"""Reads a drawing back from its pixels: segments by colour, names shapes by geometry, finds patterns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from .drawings import distance_table, second_tone, tone
from .scenes import COLOURS, PLACES, SHAPES, Scene

Array = np.ndarray
_SIDE = 32  # shapes are compared in a box of this many cells
_SHADOW = 0.81
_MIN_SHARE = 0.006  # of the picture: smaller specks are not objects


@dataclass(frozen=True)
class Seen:
    """One object found; x, y are the middle of its box as shares of the picture, area is a share too."""

    colour: str
    shape: str
    x: float
    y: float
    area: float
    box: tuple[float, float, float, float]  # left, top, right, bottom

    @property
    def place(self) -> str:
        return min(PLACES, key=lambda p: (PLACES[p][0] - self.x) ** 2 + (PLACES[p][1] - self.y) ** 2)


@dataclass(frozen=True)
class Sight:
    """Everything found in one picture."""

    background: str
    kind: str
    objects: tuple[Seen, ...]


def _lab(rgb: Array) -> Array:
    """sRGB (..., 3) in 0..1 to CIELAB."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


@cache
def _prototypes() -> tuple[Array, Array]:
    """Lab colours a named colour may show under light, pattern and shadow, and the name's number for each."""
    found, names = [], []
    for number, (name, rgb) in enumerate(COLOURS.items()):
        colour, step = np.asarray(rgb, np.float32) / 255, second_tone(name)
        for amount in (0, step / 2, step, step * 1.3, 0.12, -0.08):
            found.append(tone(colour, amount))
            names.append(number)
        for amount in (0, step):
            found.append(tone(colour, amount) * _SHADOW)
            names.append(number)
    return _lab(np.array(found)), np.array(names)


def _classify(image: Array) -> Array:
    """Number of the nearest colour for each pixel."""
    lab, names = _prototypes()
    pixels = _lab(image.reshape(-1, 3).astype(np.float64) / 255)
    distance = (pixels**2).sum(1)[:, None] - 2 * pixels @ lab.T + (lab**2).sum(1)
    return names[distance.argmin(1)].reshape(image.shape[:2])


@cache
def _templates() -> dict[str, Array]:
    found = {}
    for shape in SHAPES:
        mask = np.asarray(distance_table(shape)) < 0
        found[shape] = _boxed(mask)
    return found


def _boxed(mask: Array) -> Array:
    """The mask's bounding box resampled to _SIDE x _SIDE, as shares in 0..1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    scale = (_SIDE / cut.shape[0], _SIDE / cut.shape[1])
    smooth = ndimage.gaussian_filter(cut, [max(0.4 / s - 0.3, 0.01) for s in scale])
    y = (np.arange(_SIDE) + 0.5) / scale[0] - 0.5
    x = (np.arange(_SIDE) + 0.5) / scale[1] - 0.5
    return ndimage.map_coordinates(smooth, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")


def name_shape(mask: Array) -> str:
    """The shape whose outline overlaps the mask's best; 'blot' when none does well."""
    boxed = _boxed(mask)
    scores = {
        shape: float(np.minimum(boxed, t).sum() / np.maximum(boxed, t).sum())
        for shape, t in _templates().items()
    }
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > 0.62 else "blot"


def _cores(classes: Array, background: int) -> list[tuple[int, Array]]:
    """Colour number and solid pixels of each object, largest outline first."""
    found = []
    for number in range(len(COLOURS)):
        if number == background:
            continue
        solid = ndimage.binary_opening(classes == number, np.ones((3, 3)))
        labels, count = ndimage.label(solid)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        found += [(number, labels == i) for i in range(1, count + 1) if sizes[i] >= _MIN_SHARE * classes.size]
    return sorted(found, key=lambda f: -ndimage.binary_fill_holes(f[1]).sum())


def _objects(classes: Array, background: int) -> list[Seen]:
    height, width = classes.shape
    front = classes != background
    found = _cores(classes, background)
    cores = np.any([core for _, core in found], axis=0) if found else np.zeros_like(front)
    filled: list[tuple[int, Array]] = []
    seen = []
    for number, core in found:
        around = [n for n, area in filled if (area & core).sum() > 0.9 * core.sum()]
        if number in around:  # a container seen through the hole of what it contains
            continue
        mask = ndimage.binary_dilation(core, iterations=2) & front & (~cores | core)
        if not around:  # what an object contains does not make a ring of it
            mask |= ndimage.binary_fill_holes(mask) & front
        filled.append((number, ndimage.binary_fill_holes(mask)))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
        seen.append(
            Seen(
                list(COLOURS)[number],
                name_shape(mask),
                float(box[0] + box[2]) / 2,
                float(box[1] + box[3]) / 2,
                float(mask.mean()),
                tuple(map(float, box)),
            )
        )
    return seen


def _pattern(image: Array, behind: Array) -> str:
    """Which background pattern the pixels behind the objects show."""
    light = _lab(image / 255.0)[..., 0]
    y, x = np.nonzero(behind)
    plane = np.stack([x, y, np.ones_like(x)], 1).astype(np.float64)
    values = light[behind]
    fit, *_ = np.linalg.lstsq(plane, values, rcond=None)
    rest = values - plane @ fit
    spread, slope = float(rest.std()), float(np.hypot(*fit[:2])) * min(image.shape[:2])
    if spread < 2.0:
        return "gradient" if slope > 3.5 else "plain"
    best = 0.0
    for direction in (x, y, (x + y) * 0.707, (x - y) * 0.707):
        bins = np.round(direction - direction.min()).astype(int)
        sums, counts = np.bincount(bins, rest), np.bincount(bins)
        means = sums / np.maximum(counts, 1)
        best = max(best, float((means[bins] ** 2).mean() / (rest**2).mean()))
    return "stripes" if best > 0.55 else "dots"


def look(image: Array) -> Sight:
    """Reads a uint8 (height, width, 3) picture."""
    classes = _classify(image)
    edge = max(min(image.shape[:2]) // 20, 2)
    border = np.ones(classes.shape, bool)
    border[edge:-edge, edge:-edge] = False
    background = int(np.bincount(classes[border]).argmax())
    objects = _objects(classes, background)
    behind = ~ndimage.binary_dilation(classes != background, iterations=max(image.shape[0] // 28, 2))
    kind = _pattern(image, behind) if behind.mean() > 0.15 else "plain"
    return Sight(list(COLOURS)[background], kind, tuple(objects))


def holds(relation: str, first: Seen, second: Seen) -> bool:
    """Whether the first object stands so to the second."""
    if relation == "inside":
        left, top, right, bottom = second.box
        return left < first.x < right and top < first.y < bottom and first.area < second.area
    dx, dy = second.x - first.x, second.y - first.y
    along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    across = dy if relation in ("left of", "right of") else dx
    return along > 0.1 and along > abs(across)


def agreement(scene: Scene, sight: Sight) -> dict[str, bool]:
    """For each thing the scene's caption fixes, whether the picture shows it."""
    wanted, seen = scene.things, sight.objects
    colours = {s.colour for s in seen}
    pairs = {(s.colour, s.shape) for s in seen}
    result = {
        "background": sight.background == scene.colour,
        "colour": all(t.colour in colours for t in wanted),
        "shape": all((t.colour, t.shape) in pairs for t in wanted),
    }
    if scene.layout in ("single", "places") and all(t.place for t in wanted):
        result["place"] = all(any(s.colour == t.colour and s.place == t.place for s in seen) for t in wanted)
    if scene.layout == "count":
        result["count"] = sum(s.colour == wanted[0].colour for s in seen) == len(wanted) == len(seen)
    if scene.layout == "relation":
        first, second = wanted
        result["relation"] = any(
            holds(scene.relation, a, b)
            for a in seen
            for b in seen
            if a is not b and a.colour == first.colour and b.colour == second.colour
        )
    return result
