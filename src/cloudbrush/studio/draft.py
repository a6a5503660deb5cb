"""What a page remembers in the browser, so that a reload loses neither the form nor the job shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from pydantic import ValidationError

from cloudbrush.domain.generation import Txt2Img
from cloudbrush.studio.txt2img import FIELDS

ENDPOINT = "endpoint"
SHOWN = "inference_id"
NAMES = (*FIELDS, ENDPOINT, SHOWN)
NOTHING: dict[str, Any] = {}

# Runs in the browser whenever a value changes; no server is asked.
SAVE = f"(...values) => [Object.fromEntries({json.dumps(NAMES)}.map((name, i) => [name, values[i]]))]"


def build_draft() -> gr.BrowserState:
    """The remembered values. The secret only keeps a draft readable after the server was restarted."""
    return gr.BrowserState(NOTHING, storage_key="cloudbrush-draft", secret="cloudbrush-draft")


def restored(draft: Mapping[str, Any] | None) -> dict[str, Any]:
    """The remembered values that still make sense, by name; the rest take their defaults."""
    known = {name: value for name, value in (draft or {}).items() if name in NAMES and value is not None}
    asked = {name: known[name] for name in FIELDS if name in known}
    try:
        Txt2Img(**asked)
    except ValidationError as error:
        for wrong in error.errors():
            known.pop(str(wrong["loc"][0]), None)
    return known
