"""What a drawing contains: shapes, colours, sizes, places and backgrounds, sampled from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent")
# sRGB. Chosen so that no two are closer than a tone (see drawings.TONE) can move them.
COLOURS = {
    "red": (220, 44, 48),
    "orange": (246, 140, 30),
    "yellow": (252, 216, 56),
    "green": (58, 168, 84),
    "cyan": (64, 200, 210),
    "blue": (44, 92, 214),
    "purple": (132, 64, 190),
    "pink": (248, 148, 190),
    "brown": (126, 78, 46),
    "black": (28, 28, 34),
    "white": (248, 248, 244),
    "gray": (140, 144, 150),
}
SIZES = {"small": 0.15, "medium": 0.205, "large": 0.30}  # radius as a share of the shorter side
PLACES = {
    "top left": (0.21, 0.21),
    "top": (0.5, 0.21),
    "top right": (0.79, 0.21),
    "left": (0.21, 0.5),
    "center": (0.5, 0.5),
    "right": (0.79, 0.5),
    "bottom left": (0.21, 0.79),
    "bottom": (0.5, 0.79),
    "bottom right": (0.79, 0.79),
}
BACKGROUNDS = ("plain", "gradient", "stripes", "dots")
RELATIONS = ("left of", "right of", "above", "below", "inside")
APART = 0.175  # radius of medium objects among their like: as large as leaves a gap between them
CONTAINERS = ("circle", "square", "heart")  # shapes wide enough to hold another one
HELD_OUT_SHARE = 12  # one (shape, colour, background colour) in so many is kept for evaluation


@dataclass(frozen=True)
class Thing:
    """One drawn object; x and y are shares of width and height, radius of the shorter side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    place: str | None = None  # set only where a caption may name it


@dataclass(frozen=True)
class Scene:
    """Objects in painting order over a background; `layout` says which sentence describes it."""

    layout: str  # empty | single | count | relation | places | list
    things: tuple[Thing, ...]
    colour: str
    kind: str
    variant: int  # direction of gradient or stripes
    relation: str | None = None  # of things[0] to things[1]


def held_out(shape: str, colour: str, background: str) -> bool:
    """Whether this combination is kept out of training; depends on nothing but the words."""
    digest = hashlib.sha256(f"{shape}/{colour}/{background}".encode()).digest()
    return digest[0] % HELD_OUT_SHARE == 0


def is_held_out(scene: Scene) -> bool:
    """Whether any object of the scene forms a held-out combination with its background."""
    return any(held_out(t.shape, t.colour, scene.colour) for t in scene.things)


def sample(rng: np.random.Generator) -> Scene:
    """A scene that training may show."""
    while True:
        scene = sample_any(rng)
        if not is_held_out(scene):
            return scene


def sample_any(rng: np.random.Generator, layout: str | None = None) -> Scene:
    """A scene of the full distribution, held-out combinations included."""
    layouts = ("empty", "single", "count", "relation", "places", "list")
    layout = layout or str(rng.choice(layouts, p=(0.02, 0.44, 0.18, 0.23, 0.10, 0.03)))
    colour = str(rng.choice(list(COLOURS)))
    kind = str(rng.choice(BACKGROUNDS, p=(0.54, 0.18, 0.15, 0.13)))
    scene = Scene(layout, (), colour, kind, int(rng.integers(4)))
    return {
        "empty": lambda scene, rng: scene,
        "single": _single,
        "count": _count,
        "relation": _relation,
        "places": _places,
        "list": _list,
    }[layout](scene, rng)


def _colour(rng: np.random.Generator, *taken: str) -> str:
    return str(rng.choice([c for c in COLOURS if c not in taken]))


def _thing(
    rng: np.random.Generator,
    size: str,
    x: float,
    y: float,
    *taken: str,
    jitter: float = 0.03,
    place: str | None = None,
) -> Thing:
    dx, dy = rng.uniform(-jitter, jitter, 2)
    radius = SIZES[size] * rng.uniform(0.95, 1.05)
    return Thing(str(rng.choice(SHAPES)), _colour(rng, *taken), size, x + dx, y + dy, radius, place)


def _apart(thing: Thing) -> Thing:
    return replace(thing, radius=thing.radius * APART / SIZES["medium"]) if thing.size == "medium" else thing


def _single(scene: Scene, rng: np.random.Generator) -> Scene:
    if rng.random() < 0.55:
        place = str(rng.choice(list(PLACES)))
        size = str(rng.choice(list(SIZES), p=(0.45, 0.45, 0.10)))
        size = "medium" if size == "large" and place != "center" else size
        thing = _thing(rng, size, *PLACES[place], scene.colour, jitter=0.025, place=place)
    else:
        size = str(rng.choice(list(SIZES), p=(0.25, 0.4, 0.35)))
        thing = _thing(rng, size, 0.5, 0.5, scene.colour, jitter=0.06)
    return replace(scene, things=(thing,))


def _count(scene: Scene, rng: np.random.Generator) -> Scene:
    count = int(rng.integers(2, 5))
    arrangements = {
        2: [((0.27, 0.5), (0.73, 0.5)), ((0.5, 0.27), (0.5, 0.73))],
        3: [((0.5, 0.27), (0.27, 0.72), (0.73, 0.72)), ((0.27, 0.28), (0.73, 0.28), (0.5, 0.73))],
        4: [((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73))],
    }[count]
    spots = arrangements[int(rng.integers(len(arrangements)))]
    first = _thing(rng, "small" if rng.random() < 0.5 else "medium", 0, 0, scene.colour, jitter=0)
    first = _apart(first)
    dx, dy = rng.uniform(-0.02, 0.02, 2)
    return replace(scene, things=tuple(replace(first, x=x + dx, y=y + dy) for x, y in spots))


def _relation(scene: Scene, rng: np.random.Generator) -> Scene:
    relation = str(rng.choice(RELATIONS))
    if relation == "inside":
        outer = replace(
            _thing(rng, "large", 0.5, 0.5, scene.colour), shape=str(rng.choice(CONTAINERS)), radius=0.38
        )
        inner = _thing(rng, "small", outer.x, outer.y, scene.colour, outer.colour, jitter=0.01)
        return replace(scene, things=(inner, outer), relation=relation)
    sizes = [str(s) for s in rng.choice(["small", "medium"], 2)]
    low, high = 0.27, 0.73
    spots = {
        "left of": ((low, 0.5), (high, 0.5)),
        "right of": ((high, 0.5), (low, 0.5)),
        "above": ((0.5, low), (0.5, high)),
        "below": ((0.5, high), (0.5, low)),
    }[relation]
    things = tuple(_thing(rng, size, *spot, scene.colour) for size, spot in zip(sizes, spots, strict=True))
    return replace(scene, things=things, relation=relation)


def _places(scene: Scene, rng: np.random.Generator) -> Scene:
    count = int(rng.choice([2, 3], p=(0.7, 0.3)))
    corners = ("top left", "top right", "bottom left", "bottom right")
    places = [str(p) for p in rng.choice(corners if count == 3 else list(PLACES), count, replace=False)]
    while (
        count == 2 and np.hypot(*np.subtract(PLACES[places[0]], PLACES[places[1]])) < 0.35
    ):  # they would touch
        places[1] = str(rng.choice(list(PLACES)))
    things = tuple(_thing(rng, "small", *PLACES[p], scene.colour, jitter=0.02, place=p) for p in places)
    return replace(scene, things=things)


def _list(scene: Scene, rng: np.random.Generator) -> Scene:
    count = int(rng.integers(2, 5))
    spots = {
        2: ((0.27, 0.5), (0.73, 0.5)),
        3: ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)),
        4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
    }[count]
    size = "small" if count == 3 else str(rng.choice(["small", "medium"]))
    things = [_apart(_thing(rng, size, *spot, scene.colour, jitter=0.015)) for spot in spots]
    if count == 3:  # three abreast need room
        things = [replace(thing, radius=0.13) for thing in things]
    return replace(scene, things=tuple(things))
