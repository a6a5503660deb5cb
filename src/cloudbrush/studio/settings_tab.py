"""The Settings tab: what changes pixels and is rarely touched; kept by the browser, used by both tabs."""

from __future__ import annotations

from itertools import groupby
from typing import Any, get_args

import gradio as gr
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cloudbrush.domain.generation import Img2Img, Inpainting, Options
from cloudbrush.studio.parameters import Fields
from cloudbrush.studio.settings_table import SETTINGS, Setting

HOMES: dict[str, type[BaseModel]] = {"": Img2Img, "options": Options, "inpainting": Inpainting}
FINE, COARSE = 0.01, 0.1  # steps of sliders, by how far they go


def build_settings() -> tuple[Fields, gr.Button]:
    """The settings by path, and the button that brings the usual values back."""
    fields: Fields = {}
    with gr.Column(elem_id="settings", min_width=0):
        with gr.Row(elem_id="settings_head"):
            gr.HTML(
                "<p>These count for every job of this browser, unless <i>Override settings</i> says"
                " otherwise. They are written into the image where they are not as usual.</p>"
            )
            reset = gr.Button("Reset to defaults", elem_id="settings_reset", size="sm", min_width=0, scale=0)
        for section, settings in groupby(SETTINGS, lambda setting: setting.section):
            with gr.Column(elem_classes="card", min_width=0):
                gr.HTML(f"<h2>{section}</h2>")
                with gr.Row(elem_classes="fields thirds"):
                    fields |= {setting.path: _control(setting) for setting in settings}
    return fields, reset


def usual() -> list[Any]:
    """The default of each setting, in the order of the table."""
    return [_field(setting).default for setting in SETTINGS]


def _field(setting: Setting) -> FieldInfo:
    group, _, name = setting.path.rpartition(".")
    return HOMES[group].model_fields[name]


def _control(setting: Setting) -> Any:
    """The control that suits a field's type, within the field's own limits."""
    field = _field(setting)
    common = {
        "label": setting.label,
        "value": field.default,
        "elem_id": f"setting_{setting.key}",
        "min_width": 0,
    }
    if field.annotation is bool:
        return gr.Checkbox(container=False, **common)
    if choices := get_args(field.annotation):
        return gr.Dropdown(list(choices), **common)
    low, high = _limits(field)
    if field.annotation is int:
        return gr.Number(precision=0, minimum=low, maximum=high, **common)
    return gr.Slider(low, high, step=COARSE if high > 2 else FINE, **common)


def _limits(field: FieldInfo) -> tuple[float, float]:
    rules = field.metadata
    low = next((low for rule in rules if (low := getattr(rule, "ge", None)) is not None), 0)
    return low, next(high for rule in rules if (high := getattr(rule, "le", None)) is not None)
