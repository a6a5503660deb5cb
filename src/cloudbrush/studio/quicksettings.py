"""The quick settings on top of the page, which count for every tab: checkpoint, VAE and clip skip."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from cloudbrush.domain.sampling import AUTOMATIC
from cloudbrush.studio.parameters import Fields, slider
from cloudbrush.studio.theme import tool


@dataclass(frozen=True)
class Quick:
    """The quick settings."""

    fields: Fields
    refresh: gr.Button


def build_quick() -> Quick:
    """The row of quick settings."""
    with gr.Row(elem_id="quicksettings"):
        with gr.Row(elem_classes="with-tools checkpoint"):
            checkpoint = gr.Dropdown(
                [], label="Stable Diffusion checkpoint", elem_id="setting_sd_model_checkpoint", min_width=0
            )
            refresh = tool("↻", "refresh_sd_model_checkpoint")
        vae = gr.Dropdown([AUTOMATIC], value=AUTOMATIC, label="SD VAE", elem_id="setting_sd_vae", min_width=0)
        clip_skip = slider("Clip skip", "setting_CLIP_stop_at_last_layers", 1, 12, 1)
    return Quick({"checkpoint": checkpoint, "vae": vae, "clip_skip": clip_skip}, refresh)
