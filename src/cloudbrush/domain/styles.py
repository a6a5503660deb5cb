"""Styles: prompts with names, as the WebUI keeps them in its styles.csv (specification 1.1, 5.2)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PLACE = "{prompt}"  # where a style wants the prompt it is applied to; else it is appended
_SPACES = re.compile("  +")


@dataclass(frozen=True)
class Style:
    """What a name stands for, for the prompt and for the negative prompt."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(text: str) -> list[Style]:
    """The styles of a styles.csv, of equal names the last; rows without a name are none.

    Columns are name, prompt (in old files text) and negative_prompt. Never raises.
    """
    plain = text.removeprefix("\ufeff").replace("\x00", "")
    rows = csv.reader(io.StringIO(plain, newline=""), skipinitialspace=True)
    found: dict[str, Style] = {}
    columns: list[str] = []
    try:
        for row in rows:
            if not columns:
                columns = row
                continue
            cells = dict(zip(columns, row, strict=False))
            if name := cells.get("name", ""):
                prompt = cells.get("prompt", cells.get("text", ""))
                found[name] = Style(name, prompt, cells.get("negative_prompt", ""))
    except csv.Error:  # a field that is longer than the reader takes: what came before counts
        pass
    return list(found.values())


def apply_styles(styles: Iterable[Style], prompt: str, negative_prompt: str) -> tuple[str, str]:
    """Prompt and negative prompt under styles, one after the other."""
    for style in styles:
        prompt = _merged(style.prompt, prompt)
        negative_prompt = _merged(style.negative_prompt, negative_prompt)
    return prompt, negative_prompt


def lift_styles(known: Sequence[Style], prompt: str, negative_prompt: str) -> tuple[list[str], str, str]:
    """The names of the styles that prompts were painted under, in order, and the prompts without them."""
    lifted: list[str] = []
    left = [style for style in known if style.prompt or style.negative_prompt]
    while True:
        for style in left:
            inner = _without(style.prompt, prompt)
            negative_inner = _without(style.negative_prompt, negative_prompt)
            if inner is not None and negative_inner is not None:
                prompt, negative_prompt = inner, negative_inner
                lifted.insert(0, style.name)
                left.remove(style)
                break
        else:
            return lifted, prompt, negative_prompt


def _merged(style: str, prompt: str) -> str:
    if _PLACE in style:
        return style.replace(_PLACE, prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part)


def _without(style: str, prompt: str) -> str | None:
    """The prompt that a style was applied to, if it was."""
    style, text = (_SPACES.sub(" ", one.strip()) for one in (style, prompt))
    if _PLACE in style:
        before, _, after = style.partition(_PLACE)
        fits = len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
        return text[len(before) : len(text) - len(after)] if fits else None
    if not text.endswith(style):
        return None
    return text[: len(text) - len(style)].removesuffix(", ") if style else prompt
