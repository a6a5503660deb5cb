"""No text makes reading prompts and infotexts more than linear work; lines of code are counted, not time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from cloudbrush.domain import infotext
from cloudbrush.domain.prompt import cut_network_tags, parse_attention, split_parts, strip_comments
from cloudbrush.domain.prompt_editing import Timeline, schedule
from cloudbrush.domain.styles import Style, lift_styles, read_styles

SHORT = 1000  # characters
TIMES = 4  # as long is the other text
READERS: dict[str, Callable[[str], Any]] = {
    "attention": parse_attention,
    "editing": lambda text: schedule(text, Timeline(3)),
    "parts": split_parts,
    "tags": cut_network_tags,
    "comments": strip_comments,
    "infotext": infotext.parse,
    "infotext line": lambda text: infotext.parse("\n" + text.replace("\n", " ")),
    "fields": lambda text: infotext.to_generation_fields(infotext.parse(text)),
    "styles": read_styles,
    "lifting": lambda text: lift_styles([Style("a", "x {prompt}"), Style("b", text)], text, text),
}
UNITS = [
    *(
        "(",
        ")",
        "[",
        "]",
        "(a",
        "([",
        ")]",
        "(a:1.1)",
        "[a:b:1]",
        "[a|b]",
        "[a|",
        "[[a:",
        "((a:9",
        ":",
        ": ",
        "|",
    ),
    *(
        "\\",
        "\\(",
        " ",
        "\n",
        "a",
        "AND ",
        "a AND b:2 ",
        "BREAK ",
        "<lora:a:1>",
        "<a:",
        "<",
        ">",
        "#",
        "a#\n",
    ),
    *(
        "a: b, ",
        'a: "b, ',
        'aa:"\\\\',
        "Negative prompt: x\n",
        "-",
        "Steps: 1, Size: 2x3, ",
        '"',
        ",",
        "a,b\n",
    ),
]


def work(reader: Callable[[str], Any], text: str) -> int:
    """Lines of Python that a reader runs over a text."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        reader(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_work_grows_with_length(reader: str, unit: str) -> None:
    short = unit * (SHORT // len(unit))
    once, more = (work(READERS[reader], text) for text in (short, short * TIMES))
    assert more <= (TIMES + 0.5) * once + 200  # the addend: what short texts spare


def test_counting_finds_what_is_not_linear() -> None:
    """The measure itself: for each letter over all letters."""

    def squares(text: str) -> int:
        total = 0
        for _ in text:
            for _ in text:
                total += 1
        return total

    assert work(squares, "a" * 80) > (TIMES + 0.5) * work(squares, "a" * 20) + 200
