"""What a page remembers in the browser, so that a reload loses neither the forms nor the job shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from cloudbrush.studio import values

ENDPOINT = "endpoint"
SHOWN = "inference_id"

# Both run in the browser (studio.js): values are written whenever one changes, and read when the page opens.
SAVE = "(...values) => window.cloudbrush?.remember(values)"
LOAD = "() => [window.cloudbrush?.remembered() ?? null]"


def name(task: str, path: str) -> str:
    """How the value at a path is called among those of both forms."""
    return f"{task}/{path}" if path in values.OWN[task] else path


NAMES = (
    *values.QUICK,
    *(name(task, path) for task, own in values.OWN.items() for path in own),
    *values.SETTING_PATHS,
    ENDPOINT,
    SHOWN,
)


def build_draft() -> gr.JSON:
    """What the browser remembered when the page was opened: an object by the names, or null."""
    return gr.JSON(None, elem_id="draft", visible=False)


def restored(draft: Mapping[str, Any] | None) -> dict[str, Any]:
    """The remembered values that still make sense, by name; the rest take their defaults."""
    known = {name: value for name, value in (draft or {}).items() if name in NAMES and value is not None}
    for task in values.MODELS:
        paths = (*values.FIELDS[task], *values.SETTING_PATHS)
        given = {path: known[name(task, path)] for path in paths if name(task, path) in known}
        for path in values.refused(task, given):
            known.pop(name(task, path), None)
    return known
