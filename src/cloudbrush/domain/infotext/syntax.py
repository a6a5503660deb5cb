"""How an infotext is put together: lines of prompts, then pairs of keys and values, some of them quoted."""

from __future__ import annotations

import json
import re
from typing import Any

from cloudbrush.domain.infotext.labels import NEGATIVE_PROMPT, PROMPT

LEAST_PAIRS = 3  # a last line with fewer pairs belongs to the prompt
SIZE = re.compile(r"([0-9]+)x([0-9]+)\Z")
_QUOTED = re.compile(r'\s*("(?:\\.|[^\\"])+")(?:,|$)')


def quote(value: Any) -> str:
    """A value as it stands in the parameter line: as JSON when it holds a comma, colon or line break."""
    text = str(value)
    if any(character in text for character in ",:\n"):
        return json.dumps(value, ensure_ascii=False)
    return text


def unquote(text: str) -> str:
    """The value that `quote` wrote; text that is no JSON string is itself."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def quote_exactly(text: str) -> str:
    """Like `quote`, and also where the reader would take the text for something else, or for none."""
    looks_different = not text or text != text.strip() or text.startswith('"')
    return json.dumps(text, ensure_ascii=False) if looks_different else quote(text)


def joined(prompt: str, negative_prompt: str, parameters: str) -> str:
    """An infotext from its three parts; empty ones leave no line."""
    negative = f"{NEGATIVE_PROMPT}: {negative_prompt}" if negative_prompt else ""
    return "\n".join(part for part in (prompt, negative, parameters) if part)


def prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt from the lines before the parameters."""
    texts: dict[str, list[str]] = {PROMPT: [], NEGATIVE_PROMPT: []}
    current = PROMPT
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE_PROMPT + ":"):
            current = NEGATIVE_PROMPT
            line = line.removeprefix(NEGATIVE_PROMPT + ":").strip()
        if line or texts[current]:
            texts[current].append(line)
    return "\n".join(texts[PROMPT]), "\n".join(texts[NEGATIVE_PROMPT])


def pairs(line: str) -> list[tuple[str, str]]:
    """The `key: value` pairs of a parameter line; linear in its length, whatever it holds."""
    found: list[tuple[str, str]] = []
    start = 0
    while (colon := line.find(":", start)) >= 0:
        key = _key_before(line, start, colon)
        if len(key) < 2:  # the WebUI, too, takes no one-letter keys
            start = colon + 1
            continue
        quoted = _QUOTED.match(line, colon + 1)
        if quoted:
            value, start = quoted[1], quoted.end()
        else:
            comma = line.find(",", colon)
            end = comma if comma >= 0 else len(line)
            value, start = line[colon + 1 : end].lstrip(), end + 1
        found.append((key, value))
    return found


def _key_before(line: str, start: int, colon: int) -> str:
    """The longest text before `colon` that is made of key characters and begins with a letter or digit."""
    first = colon
    while first > start and (line[first - 1].isalnum() or line[first - 1] in "_ -/"):
        first -= 1
    return line[first:colon].lstrip(" -/")
