"""The native region of the txt2img tab: prompts and parameters, named and ranged as in the WebUI."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from pydantic import ValidationError

from cloudbrush.client import Client
from cloudbrush.domain import infotext
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import RANDOM_SEED, Txt2Img
from cloudbrush.domain.sampling import SAMPLERS, SCHEDULES
from cloudbrush.domain.tokens import CHUNK, count
from cloudbrush.studio.theme import tool

DEFAULTS = Txt2Img()
USUAL_SIDE = 512  # pixels, until a checkpoint says otherwise


@dataclass(frozen=True)
class Form:
    """The values of a generation; each component is named as the field of `Txt2Img` it fills."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    checkpoint: gr.Dropdown
    sampler: gr.Dropdown
    schedule: gr.Dropdown
    steps: gr.Slider
    width: gr.Slider
    height: gr.Slider
    batch_count: gr.Slider
    batch_size: gr.Slider
    cfg_scale: gr.Slider
    seed: gr.Number

    @property
    def components(self) -> list[Any]:
        """The components, in the order of `FIELDS`."""
        return [getattr(self, name) for name in FIELDS]


FIELDS = tuple(field.name for field in fields(Form))


@dataclass(frozen=True)
class Prompts:
    """The prompt boxes with their counters."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    counter: gr.HTML
    negative_counter: gr.HTML


@dataclass(frozen=True)
class Buttons:
    """The small buttons beside the parameters."""

    swap: gr.Button
    random_seed: gr.Button
    reuse_seed: gr.Button


def build_checkpoint() -> tuple[gr.Dropdown, gr.Button]:
    """The quick settings: the checkpoint and its refresh button."""
    with gr.Row(elem_id="quicksettings", elem_classes="with-tools"):
        checkpoint = gr.Dropdown(
            [], label="Stable Diffusion checkpoint", elem_id="setting_sd_model_checkpoint", filterable=True
        )
        refresh = tool("↻", "refresh_sd_model_checkpoint")
    return checkpoint, refresh


def build_prompts() -> Prompts:
    """Prompt and negative prompt, each with its token counter."""
    with gr.Column(elem_id="txt2img_prompts", min_width=0):
        with gr.Column(elem_classes="counted", min_width=0):
            prompt = gr.Textbox(
                label="Prompt",
                elem_id="txt2img_prompt",
                lines=3,
                max_lines=12,
                placeholder="A small red circle above a blue square on a green background",
            )
            counter = gr.HTML(tokens(""), elem_id="txt2img_token_counter", elem_classes="counter")
        with gr.Column(elem_classes="counted", min_width=0):
            negative_prompt = gr.Textbox(
                label="Negative prompt",
                elem_id="txt2img_neg_prompt",
                lines=2,
                max_lines=12,
                placeholder="What should not be in the image",
            )
            negative_counter = gr.HTML(
                tokens(""), elem_id="txt2img_negative_token_counter", elem_classes="counter"
            )
    return Prompts(prompt, negative_prompt, counter, negative_counter)


def build_parameters(checkpoint: gr.Dropdown, prompts: Prompts) -> tuple[Form, Buttons]:
    """Everything else a generation needs."""
    with gr.Column(elem_id="txt2img_settings", elem_classes="card", min_width=0):
        sampler, schedule, steps = _build_sampling()
        (width, height), (batch_count, batch_size), swap = _build_dimensions()
        with gr.Row(elem_classes="fields halves"):
            cfg_scale = gr.Slider(
                1, 30, value=DEFAULTS.cfg_scale, step=0.5, label="CFG Scale", elem_id="txt2img_cfg_scale"
            )
            with gr.Row(elem_classes="with-tools"):
                seed = gr.Number(
                    DEFAULTS.seed, label="Seed", elem_id="txt2img_seed", precision=0, min_width=0
                )
                random_seed = tool("⚄", "txt2img_random_seed")
                reuse_seed = tool("♻", "txt2img_reuse_seed")
    form = Form(
        prompt=prompts.prompt,
        negative_prompt=prompts.negative_prompt,
        checkpoint=checkpoint,
        sampler=sampler,
        schedule=schedule,
        steps=steps,
        width=width,
        height=height,
        batch_count=batch_count,
        batch_size=batch_size,
        cfg_scale=cfg_scale,
        seed=seed,
    )
    return form, Buttons(swap, random_seed, reuse_seed)


def _build_sampling() -> tuple[gr.Dropdown, gr.Dropdown, gr.Slider]:
    with gr.Row(elem_classes="fields thirds"):
        sampler = gr.Dropdown(
            [sampler.name for sampler in SAMPLERS],
            value=DEFAULTS.sampler,
            label="Sampling method",
            elem_id="txt2img_sampling",
            min_width=0,
        )
        schedule = gr.Dropdown(
            [schedule.name for schedule in SCHEDULES],
            value=DEFAULTS.schedule,
            label="Schedule type",
            elem_id="txt2img_scheduler",
            min_width=0,
        )
        steps = gr.Slider(
            1, 150, value=DEFAULTS.steps, step=1, label="Sampling steps", elem_id="txt2img_steps", min_width=0
        )
    return sampler, schedule, steps


def _build_dimensions() -> tuple[tuple[gr.Slider, gr.Slider], tuple[gr.Slider, gr.Slider], gr.Button]:
    with gr.Row(elem_classes="fields halves"):
        with gr.Row(elem_classes="with-tools"):
            with gr.Column(min_width=0):
                width = _side("Width")
                height = _side("Height")
            swap = tool("⇅", "txt2img_res_switch_btn")
        with gr.Column(min_width=0):
            batch_count = gr.Slider(
                1, 100, value=1, step=1, label="Batch count", elem_id="txt2img_batch_count"
            )
            batch_size = gr.Slider(1, 8, value=1, step=1, label="Batch size", elem_id="txt2img_batch_size")
    return (width, height), (batch_count, batch_size), swap


def _side(label: str) -> gr.Slider:
    return gr.Slider(64, 2048, value=USUAL_SIDE, step=8, label=label, elem_id=f"txt2img_{label.lower()}")


def tokens(prompt: str) -> str:
    """The counter of a prompt box, such as 12/75."""
    used, limit = count(prompt) if prompt else (0, CHUNK)
    return f"<span>{used}/{limit}</span>"


def generation(values: Mapping[str, Any]) -> Txt2Img:
    """What the form asks for. Raises `InvalidInput` naming the field as its label does."""
    given = {name: _number(value) for name, value in values.items() if value not in (None, "")}
    try:
        return Txt2Img(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        label = LABELS.get(name, name)
        raise InvalidInput(f"{label}: {first['msg'].removeprefix('Value error, ')}", field=name) from error


LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "checkpoint": "Stable Diffusion checkpoint",
    "sampler": "Sampling method",
    "schedule": "Schedule type",
    "steps": "Sampling steps",
    "width": "Width",
    "height": "Height",
    "batch_count": "Batch count",
    "batch_size": "Batch size",
    "cfg_scale": "CFG Scale",
    "seed": "Seed",
}


def _number(value: Any) -> Any:
    """Browsers send 20.0 for 20."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


async def checkpoints(client: Client, chosen: str | None) -> tuple[Any, ModelAsset | None]:
    """The dropdown of what there is now, keeping the choice if it is still there, and the chosen asset."""
    assets = await client.models(AssetKind.CHECKPOINT)
    asset = next((asset for asset in assets if asset.name == chosen), assets[0] if assets else None)
    choices = [(f"{asset.name} [{asset.short_hash}]", asset.name) for asset in assets]
    return gr.update(choices=choices, value=asset.name if asset else None), asset


async def native_size(client: Client, checkpoint: str | None) -> int:
    """The side in pixels the checkpoint was trained at."""
    _, asset = await checkpoints(client, checkpoint)
    return asset.native_size if asset else USUAL_SIDE


def painted_seed(text: str) -> int:
    """The seed in the infotext of the image shown, -1 when there is none."""
    return int(infotext.parse(text).get("Seed", RANDOM_SEED))
