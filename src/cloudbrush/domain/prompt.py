"""The prompt language, as the WebUI 1.10 reads it. Nothing here ever raises; what is broken stays text.

In the order in which a prompt is read: `# comments` go, `<lora:name:1>` tags are cut out, `AND` splits it
into parts, each part may change over time (`prompt_editing`), and what stands at a step has attention: `(x)`
weighs x by 1.1, `[x]` by 1/1.1, `(x:w)` by w; nested weights multiply, a backslash makes a bracket literal.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

BREAK = "BREAK"
ROUND_WEIGHT = 1.1
SQUARE_WEIGHT = 1 / 1.1
WEIGHT_LIMIT = 1e9  # a larger weight could only overflow
EXACT_DEPTH = 64  # brackets multiplied from the inside out, as the WebUI does; more than that from outside

_WHOLE_LINE_COMMENT = re.compile(r"(?:^|\n)#[^\n]*(?:\n|$)")
_COMMENT = re.compile(r"#[^\n]*(?:\n|$)")
_TAG_START = re.compile(r"<(\w+):")
_AND = re.compile(r"\bAND\b")
_PART_WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")
_TOKEN = re.compile(r"\\[()\[\]\\]?|:\s*([+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_BREAK = re.compile(rf"\b{BREAK}\b")


@dataclass(frozen=True)
class NetworkTag:
    """A `<kind:name:...>` tag: an extra network to paint with, with its arguments as written."""

    kind: str  # lora, lyco, hypernet
    arguments: tuple[str, ...]
    named: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Part:
    """One of the prompts that `AND` joins, and how much it counts."""

    text: str
    weight: float = 1.0


def strip_comments(text: str) -> str:
    """The text without what stands behind a `#` in any line."""
    if "#" not in text:
        return text
    return _COMMENT.sub("\n", _WHOLE_LINE_COMMENT.sub("\n", text))


def cut_network_tags(text: str) -> tuple[str, list[NetworkTag]]:
    """The text without its `<kind:...>` tags, and the tags in order."""
    kept: list[str] = []
    tags: list[NetworkTag] = []
    position = 0
    while start := _TAG_START.search(text, position):
        end = text.find(">", start.end() + 1)  # a tag has at least one character of arguments
        if end < 0:
            break
        if text[start.end()] == ">":
            kept.append(text[position : start.end()])
            position = start.end()
            continue
        kept.append(text[position : start.start()])
        tags.append(_tag(start[1], text[start.end() : end]))
        position = end + 1
    return "".join([*kept, text[position:]]), tags


def _tag(kind: str, arguments: str) -> NetworkTag:
    pairs = [argument.split("=", 2) for argument in arguments.split(":")]
    positional = tuple("=".join(pair) for pair in pairs if len(pair) != 2)
    return NetworkTag(kind, positional, tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2))


def split_parts(text: str) -> list[Part]:
    """The parts that `AND` joins, each without the weight at its end; at least one."""
    return [_part(part) for part in _AND.split(text)]


def _part(text: str) -> Part:
    words, colon, number = text.rpartition(":")
    if colon and _PART_WEIGHT.fullmatch(number.strip()):
        weight = float(number)
        return Part(words.rstrip(), max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, weight)))
    return Part(text.rstrip())


@dataclass(frozen=True)
class Segment:
    """A piece of a prompt and how much it counts."""

    text: str
    weight: float = 1.0

    @property
    def is_break(self) -> bool:
        """Whether this closes the 75-token chunk; a BREAK reweighted by a bracket is a word again."""
        return self.text == BREAK and self.weight == -1


def parse_attention(text: str) -> list[Segment]:
    """The segments of `text` with their weights, neighbours of equal weight as one; never empty.

    Never raises, and takes time linear in the length of the text.
    """
    merged: list[tuple[float, list[str]]] = []
    for piece in _Scan(text).pieces:
        weight = piece.weight()
        if merged and merged[-1][0] == weight:
            merged[-1][1].append(piece.text)
        else:
            merged.append((weight, [piece.text]))
    return [Segment("".join(texts), weight) for weight, texts in merged] or [Segment("")]


@dataclass(eq=False)
class _Bracket:
    """A bracket while it is open, and what it does to the pieces it encloses once it closed."""

    parent: _Bracket | None  # next one outwards, of the same shape
    factor: float = 1.0
    closed: int = 0  # in which order
    product: float = 1.0  # of this factor and all factors outwards


@dataclass(frozen=True)
class _Piece:
    """Text between brackets, with the innermost open bracket of each shape."""

    text: str
    own: float
    round: _Bracket | None
    square: _Bracket | None

    def weight(self) -> float:
        """The product of the enclosing brackets, in the order in which they closed."""
        weight, one, other = self.own, self.round, self.square
        for _ in range(EXACT_DEPTH):
            if one is None and other is None:
                break
            if one is None or (other is not None and other.closed < one.closed):
                one, other = other, one
            assert one is not None
            weight *= one.factor
            one = one.parent
        weight *= (one.product if one else 1.0) * (other.product if other else 1.0)
        if math.isnan(weight):  # zero times something that overflowed
            return 0.0
        return max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, weight))


class _Scan:
    """One pass over a prompt, collecting pieces and brackets."""

    def __init__(self, text: str) -> None:
        self.pieces: list[_Piece] = []
        self._round: _Bracket | None = None
        self._square: _Bracket | None = None
        self._opened: list[_Bracket] = []
        self._closings = 0
        for match in _TOKEN.finditer(text):
            self._token(match[0], match[1])
        while self._round is not None:
            self._round = self._close(self._round, ROUND_WEIGHT)
        while self._square is not None:
            self._square = self._close(self._square, SQUARE_WEIGHT)
        for bracket in self._opened:  # outer ones first
            outwards = bracket.parent.product if bracket.parent else 1.0
            bracket.product = bracket.factor * outwards

    def _token(self, token: str, number: str | None) -> None:
        if token.startswith("\\"):
            self._append(token[1:])
        elif token == "(":
            self._round = self._open(self._round)
        elif token == "[":
            self._square = self._open(self._square)
        elif token == "]" and self._square is not None:
            self._square = self._close(self._square, SQUARE_WEIGHT)
        elif token.endswith(")") and self._round is not None:
            weight = _finite(number)
            if number is not None and weight is None:
                self._text(token[:-1])
            self._round = self._close(self._round, ROUND_WEIGHT if weight is None else weight)
        else:
            self._text(token)

    def _open(self, parent: _Bracket | None) -> _Bracket:
        self._opened.append(_Bracket(parent))
        return self._opened[-1]

    def _close(self, bracket: _Bracket, factor: float) -> _Bracket | None:
        bracket.factor, bracket.closed = factor, self._closings
        self._closings += 1
        return bracket.parent

    def _text(self, text: str) -> None:
        first, *others = _BREAK.split(text)
        self._append(first.rstrip() if others else first)
        for position, part in enumerate(others, start=1):
            self._append(BREAK, own=-1.0)
            self._append(part.strip() if position < len(others) else part.lstrip())

    def _append(self, text: str, own: float = 1.0) -> None:
        self.pieces.append(_Piece(text, own, self._round, self._square))


def _finite(number: str | None) -> float | None:
    try:
        value = float(number) if number is not None else math.nan
    except ValueError:  # such as 1..5
        return None
    return value if math.isfinite(value) else None
