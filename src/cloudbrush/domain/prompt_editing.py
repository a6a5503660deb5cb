"""Prompt editing: one prompt that reads differently from step to step.

`[from:to:when]` and `[to:when]` change at a step, `[a|b]` with every step. The WebUI's grammar is exact about
what may stand inside such a bracket: balanced brackets, and at most one colon in a round pair. A bracket that
is none of it stays text, and so does the whole prompt when a bar or a backslash stands where none may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKEN = re.compile(r"\\.|[^\\\[\]():|]+|[\[\]():|]")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


class Period(NamedTuple):
    """A stretch of a run during which the prompt reads one way."""

    until: int  # the last step, counted from 1
    text: str


@dataclass(frozen=True)
class Timeline:
    """How `when` becomes a step: what is counted, and from where."""

    steps: int
    first_pass_steps: int | None = None  # given in the hires pass, whose steps count on from there
    old_rule: bool = False  # before 1.6: below 1 a share, else a step, and no hires steps

    @property
    def total(self) -> int:
        """Steps of this pass."""
        if self.old_rule and self.first_pass_steps is not None:
            return self.first_pass_steps
        return self.steps

    def step(self, when: str) -> int:
        """The last step before a change at `when`: a share of all steps if it has a point, else a step."""
        number = float(when)
        if self.old_rule:
            number = number * self.total if number < 1 else number
        elif "." in when:
            number = (number - (0 if self.first_pass_steps is None else 1)) * self.total
        else:
            number -= self.first_pass_steps or 0
        return int(max(-1, min(self.total, number)))


def schedule(text: str, timeline: Timeline) -> list[Period]:
    """The periods of a prompt over one pass, in order; the last one ends with the pass.

    Never raises, and takes time linear in the length of the text (times the number of periods).
    """
    try:
        tree = _parse(text, timeline.step)
    except _NotInGrammar:
        return [Period(timeline.total, text)]
    ends = {timeline.total}
    for node in _walk(tree):
        if isinstance(node, _Change) and node.step >= 1:
            ends.add(node.step)
        elif isinstance(node, _Alternation):
            ends.update(range(1, timeline.total + 1))
    return [Period(end, _render(tree, end)) for end in sorted(ends)]


def period_at(periods: Sequence[Period], evaluation: int) -> int:
    """Which period counts for the denoiser's call number `evaluation`, counted from 0 in each pass.

    The WebUI compares this count with steps counted from 1, so a change comes one call late; and calls that
    go on after the last step, as those of DPM adaptive may, begin with the first period again.
    """
    for position, period in enumerate(periods):
        if evaluation <= period.until:
            return position
    return 0


class _NotInGrammar(Exception):
    """The prompt as a whole is nothing but text."""


@dataclass(frozen=True)
class _Change:
    """`[before:after:when]`."""

    before: list[_Node]
    after: list[_Node]
    step: int


@dataclass(frozen=True)
class _Alternation:
    """`[one|another|...]`."""

    options: list[list[_Node]]


_Node = str | _Change | _Alternation | list["_Node"]


@dataclass
class _Frame:
    """A bracket while it is open: the parts between its separators."""

    opening: str
    parts: list[list[_Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def separate(self, separator: str) -> None:
        self.separators.append(separator)
        self.parts.append([])

    def literal(self) -> Iterator[_Node]:
        """The frame as text, which a bar may not be part of."""
        if "|" in self.separators:
            raise _NotInGrammar
        yield self.opening
        for separator, part in zip(["", *self.separators], self.parts, strict=True):
            yield separator
            yield part

    def node(self, step: Callable[[str], int]) -> _Node | None:
        """What the frame is once closed, if it is something."""
        bars = self.separators.count("|")
        colons = len(self.separators) - bars
        if self.opening == "(":
            return [*self.literal(), ")"] if not bars and colons <= 1 else None
        if bars:
            return _Alternation(self.parts) if not colons else None
        if not colons:
            return [*self.literal(), "]"]
        when = _NUMBER.fullmatch("".join(self.parts[-1])) if _is_text(self.parts[-1]) else None  # type: ignore[arg-type]
        if when is None or colons > 2:
            return None
        return _Change(self.parts[0] if colons == 2 else [], self.parts[-2], step(when[1]))


def _is_text(part: list[_Node]) -> bool:
    return all(isinstance(node, str) for node in part)


def _parse(text: str, step: Callable[[str], int]) -> list[_Node]:
    """The prompt as a tree; raises `_NotInGrammar` when it is to be taken as it stands."""
    top: list[_Node] = []
    frames: list[_Frame] = []
    position = 0
    for match in _TOKEN.finditer(text):
        if match.start() != position:
            raise _NotInGrammar  # a backslash before nothing
        position = match.end()
        token = match[0]
        if token in "([":
            frames.append(_Frame(token))
        elif token in ")]":
            _close(token, frames, top, step)
        elif token in ":|" and frames:
            frames[-1].separate(token)
        elif token == "|":
            raise _NotInGrammar
        else:
            (frames[-1].parts[-1] if frames else top).append(token)
    if position != len(text):
        raise _NotInGrammar
    _flatten(frames, top)
    return top


def _close(token: str, frames: list[_Frame], top: list[_Node], step: Callable[[str], int]) -> None:
    """Close the innermost bracket; if that makes no sense, no bracket around it does either."""
    matches = bool(frames) and frames[-1].opening == {")": "(", "]": "["}[token]
    node = frames[-1].node(step) if matches else None
    if node is None:
        _flatten(frames, top)
        top.append(token)
        return
    frames.pop()
    (frames[-1].parts[-1] if frames else top).append(node)


def _flatten(frames: list[_Frame], top: list[_Node]) -> None:
    for frame in frames:
        top.extend(frame.literal())
    frames.clear()


def _walk(tree: list[_Node]) -> Iterator[_Node]:
    """All nodes of a tree; without recursion, for people nest brackets deeper than Python calls."""
    pending: list[_Node] = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, _Change):
            pending.extend((node.before, node.after))
        elif isinstance(node, _Alternation):
            pending.extend(node.options)


def _render(tree: list[_Node], step: int) -> str:
    """The text of a tree as it reads at a step."""
    texts: list[str] = []
    pending: list[_Node] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, list):
            pending.extend(reversed(node))
        elif isinstance(node, _Change):
            pending.append(node.before if step <= node.step else node.after)
        else:
            pending.append(node.options[(step - 1) % len(node.options)])
    return "".join(texts)
