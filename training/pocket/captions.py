"""Says a scene in varied everyday words; what a caption leaves out, the drawing is free to choose."""

from __future__ import annotations

import numpy as np

from .scenes import Scene, Thing

SHAPE_WORDS = {
    "circle": ("circle", "circle", "circle", "disc", "ball"),
    "square": ("square", "square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "ring", "ring", "donut", "hoop"),
    "cross": ("cross", "cross", "cross", "plus sign", "plus"),
    "crescent": ("crescent", "crescent", "crescent moon", "moon"),
}
COLOUR_WORDS = {
    "red": ("red",) * 5 + ("crimson", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow",) * 5 + ("golden",),
    "green": ("green",) * 6 + ("emerald",),
    "cyan": ("cyan",) * 3 + ("turquoise", "teal", "aqua"),
    "blue": ("blue",) * 6 + ("royal blue",),
    "purple": ("purple", "purple", "purple", "violet"),
    "pink": ("pink",),
    "brown": ("brown",) * 5 + ("chocolate",),
    "black": ("black",),
    "white": ("white",),
    "gray": ("gray", "grey"),
}
SIZE_WORDS = {
    "small": ("small", "small", "small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "large", "big", "big", "huge"),
}
PLACE_WORDS = {
    "top left": (
        "in the top left corner",
        "in the top left corner",
        "at the top left",
        "in the upper left corner",
        "top left",
    ),
    "top": ("at the top", "at the top", "in the top", "near the top", "on the top side"),
    "top right": (
        "in the top right corner",
        "in the top right corner",
        "at the top right",
        "in the upper right corner",
        "top right",
    ),
    "left": ("on the left", "on the left", "on the left side", "at the left"),
    "center": ("in the center", "in the center", "in the middle", "in the centre", "centered"),
    "right": ("on the right", "on the right", "on the right side", "at the right"),
    "bottom left": (
        "in the bottom left corner",
        "in the bottom left corner",
        "at the bottom left",
        "in the lower left corner",
        "bottom left",
    ),
    "bottom": ("at the bottom", "at the bottom", "in the bottom", "near the bottom", "on the bottom side"),
    "bottom right": (
        "in the bottom right corner",
        "in the bottom right corner",
        "at the bottom right",
        "in the lower right corner",
        "bottom right",
    ),
}
RELATION_WORDS = {
    "left of": ("to the left of", "to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "to the right of", "right of", "on the right of"),
    "above": ("above", "above", "above", "over", "on top of"),
    "below": ("below", "below", "under", "beneath", "underneath"),
    "inside": ("inside", "inside", "within", "inside of", "in"),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
KIND_WORDS = {  # the whole backdrop, without article
    "plain": ("plain {c} background", "solid {c} background", "flat {c} background"),
    "gradient": (
        "{c} gradient background",
        "{c} gradient",
        "gradient {c} background",
        "{c} background with a gradient",
    ),
    "stripes": (
        "{c} striped background",
        "striped {c} background",
        "{c} background with stripes",
        "{c} stripes background",
    ),
    "dots": (
        "{c} dotted background",
        "dotted {c} background",
        "{c} polka dot background",
        "{c} background with dots",
    ),
}
COUNTS = {2: ("two", "two", "2", "a pair of"), 3: ("three", "three", "3"), 4: ("four", "four", "4")}
OPENINGS = (
    "a drawing of",
    "an illustration of",
    "a picture of",
    "an image of",
    "a painting of",
    "a photo of",
)
QUALITIES = (
    "best quality",
    "high quality",
    "masterpiece",
    "detailed",
    "simple",
    "minimal",
    "flat design",
    "clean",
    "beautiful",
    "sharp",
)
PATTERNS = {
    "stripes": ("stripes", "striped", "striped background"),
    "dots": ("dots", "polka dots", "dotted"),
    "gradient": ("gradient", "gradient background"),
    "plain": ("plain", "plain background"),
}


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _noun(thing: Thing, rng: np.random.Generator, plural: bool = False, size: float = 0.5) -> str:
    shape = _pick(rng, SHAPE_WORDS[thing.shape])
    if plural:
        shape = {"box": "boxes", "cross": "crosses", "plus": "pluses"}.get(shape, shape + "s")
    words = [_pick(rng, COLOUR_WORDS[thing.colour]), shape]
    if rng.random() < (size if thing.size != "medium" else 0.12):
        words.insert(0, _pick(rng, SIZE_WORDS[thing.size]))
    return " ".join(words)


def article(noun: str) -> str:
    """The noun with a or an before it."""
    return ("an " if noun[0] in "aeio" else "a ") + noun


def _a(thing: Thing, rng: np.random.Generator, bare: bool = False) -> str:
    noun = _noun(thing, rng)
    if bare or rng.random() < 0.06:
        return noun
    return f"one {noun}" if rng.random() < 0.03 else article(noun)


def _joined(parts: list[str], rng: np.random.Generator, bare: bool) -> str:
    if bare or len(parts) == 1:
        return ", ".join(parts)
    return (
        ", ".join(parts[:-1]) + _pick(rng, (" and ", ", and ") if len(parts) > 2 else (" and ",)) + parts[-1]
    )


def objects(scene: Scene, rng: np.random.Generator, bare: bool) -> str:
    """The foreground, without the background; '' for an empty scene."""
    things = scene.things
    if not things:
        return ""
    if scene.layout == "count":
        return f"{_pick(rng, COUNTS[len(things)])} {_noun(things[0], rng, plural=True)}"
    if scene.layout == "relation":
        first, second, relation = *things, scene.relation
        if relation in OPPOSITE and rng.random() < 0.5:
            first, second, relation = second, first, OPPOSITE[relation]
        link = _pick(rng, RELATION_WORDS[relation])
        if relation in ("left of", "right of") and rng.random() < 0.06:
            link = "next to"
        return f"{_a(first, rng, bare)} {link} {_a(second, rng, bare)}"
    parts = []
    for thing in things:
        said = thing.place and (scene.layout == "places" or thing.place != "center" or rng.random() < 0.6)
        place = " " + _pick(rng, PLACE_WORDS[thing.place]) if said else ""
        parts.append(_a(thing, rng, bare) + place)
    return _joined(parts, rng, bare)


def backdrop(scene: Scene, rng: np.random.Generator) -> str:
    """The background as a noun without article, its pattern sometimes left unsaid."""
    colour = _pick(rng, COLOUR_WORDS[scene.colour])
    said = rng.random() < (0.15 if scene.kind == "plain" else 0.8)
    pattern = (
        _pick(rng, KIND_WORDS[scene.kind])
        if said
        else _pick(rng, ("{c} background",) * 6 + ("{c} backdrop",))
    )
    return pattern.format(c=colour)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many ways to ask for this scene; at most 75 tokens."""
    bare = rng.random() < 0.25
    front, back = objects(scene, rng, bare), backdrop(scene, rng)
    style = rng.random()
    if not front:
        text = _pick(rng, (back, article(back), f"empty {back}"))
    elif style < 0.03:
        text = _pick(rng, PATTERNS[scene.kind])
    elif style < 0.12:
        text = front
    elif style < 0.15:
        text = back
    elif style < 0.27 or (bare and style < 0.6):
        text = _pick(rng, (f"{front}, {back}", f"{front}, {back}", f"{back}, {front}"))
    elif style < 0.42:
        text = _pick(
            rng, (f"{back} with {front}", f"{article(back)} with {front}", f"on {article(back)}, {front}")
        )
    else:
        link = _pick(rng, ("on", "on", "on", "on", "with", "against", "in front of"))
        if " background" not in back and " backdrop" not in back and "gradient" not in back:
            link = "on"
        elif scene.kind == "plain" and rng.random() < 0.08:
            back, link = _pick(rng, COLOUR_WORDS[scene.colour]), "on"
            return _dressed(f"{front} on {back}", rng)
        text = f"{front} {link} {article(back)}"
    return _dressed(text, rng)


def _dressed(text: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.10:
        text = f"{_pick(rng, OPENINGS)} {text}"
    if rng.random() < 0.08:
        text = ", ".join([text, *(_pick(rng, QUALITIES) for _ in range(int(rng.integers(1, 3))))])
    if rng.random() < 0.05:
        text += "."
    return text


def vocabulary() -> list[str]:
    """Every word a caption can hold, for the table of trained embeddings."""
    texts = [
        *OPENINGS,
        *QUALITIES,
        "a an one on with against in front of and , . the empty backdrop next to - background",
    ]
    for table in (
        SHAPE_WORDS,
        COLOUR_WORDS,
        SIZE_WORDS,
        PLACE_WORDS,
        RELATION_WORDS,
        KIND_WORDS,
        COUNTS,
        PATTERNS,
    ):
        texts += [w.replace("{c}", "") for words in table.values() for w in words]
    texts += [w + "s" for words in SHAPE_WORDS.values() for w in words] + ["boxes crosses pluses"]
    return texts
