"""The generation parameters that txt2img and img2img share: looks only, named and ranged as in the WebUI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from cloudbrush.domain.generation import Generation, Refiner, Variation
from cloudbrush.domain.sampling import SAMPLERS, SCHEDULES
from cloudbrush.domain.tokens import CHUNK, count
from cloudbrush.studio import values
from cloudbrush.studio.theme import tool

DEFAULTS = Generation()
USUAL_SIDE = 512  # pixels, until a checkpoint says otherwise

Fields = dict[str, Any]  # components by the path of the field they fill


@dataclass(frozen=True)
class Counted:
    """A prompt box and its token counter."""

    box: gr.Textbox
    counter: gr.HTML
    negative: bool


@dataclass(frozen=True)
class Tools:
    """The small buttons of a form."""

    swap: gr.Button
    random_seed: gr.Button
    reuse_seed: gr.Button
    random_variation: gr.Button
    reuse_variation: gr.Button


@dataclass(frozen=True)
class Form:
    """A tab's form over a generation of one task."""

    task: str
    fields: Fields
    prompts: tuple[Counted, ...]
    tools: Tools

    @property
    def components(self) -> list[Any]:
        """The components, in the order of `values.FIELDS`."""
        return [self.fields[path] for path in values.FIELDS[self.task]]

    @property
    def ids(self) -> dict[str, str]:
        """The element ids by path."""
        return {path: component.elem_id for path, component in self.fields.items()}


def tokens(prompt: str, *, negative: bool = False) -> str:
    """The counter of a prompt box, such as 12/75."""
    used, limit = count(prompt, negative=negative) if prompt else (0, CHUNK)
    return f"<span>{used}/{limit}</span>"


def build_prompts(task: str) -> tuple[Fields, tuple[Counted, ...]]:
    """Prompt and negative prompt, each with its token counter."""
    example = "A small red circle above a blue square on a green background"
    with gr.Column(elem_id=f"{task}_prompts", elem_classes="prompts", min_width=0):
        prompt = counted("Prompt", f"{task}_prompt", f"{task}_token_counter", 3, example)
        unwanted = "What should not be in the image"
        negative = counted(
            "Negative prompt",
            f"{task}_neg_prompt",
            f"{task}_negative_token_counter",
            2,
            unwanted,
            negative=True,
        )
    return {"prompt": prompt.box, "negative_prompt": negative.box}, (prompt, negative)


def counted(
    label: str, elem_id: str, counter_id: str, lines: int, placeholder: str, *, negative: bool = False
) -> Counted:
    """A prompt box with its token counter."""
    with gr.Column(elem_classes="counted", min_width=0):
        box = gr.Textbox(label=label, elem_id=elem_id, lines=lines, max_lines=12, placeholder=placeholder)
        return Counted(box, gr.HTML(tokens(""), elem_id=counter_id, elem_classes="counter"), negative)


def build_sampling(task: str) -> Fields:
    """Sampling method, schedule and steps."""
    with gr.Row(elem_classes="fields thirds"):
        sampler = gr.Dropdown(
            [sampler.name for sampler in SAMPLERS],
            value=DEFAULTS.sampler,
            label="Sampling method",
            elem_id=f"{task}_sampling",
            min_width=0,
        )
        schedule = gr.Dropdown(
            [schedule.name for schedule in SCHEDULES],
            value=DEFAULTS.schedule,
            label="Schedule type",
            elem_id=f"{task}_scheduler",
            min_width=0,
        )
        steps = slider("Sampling steps", f"{task}_steps", 1, 150, DEFAULTS.steps)
    return {"sampler": sampler, "schedule": schedule, "steps": steps}


def build_refiner(task: str) -> Fields:
    """The checkpoint that takes over on the way."""
    usual = Refiner.model_fields["switch_at"].default
    with gr.Column(elem_id=f"{task}_enable", elem_classes="group", min_width=0):
        switch = group_switch("Refiner", f"{task}_enable-checkbox")
        with gr.Row(elem_classes="group-body fields halves"):
            checkpoint = gr.Dropdown([], label="Checkpoint", elem_id=f"{task}_checkpoint", min_width=0)
            switch_at = slider("Switch at", f"{task}_switch_at", 0.01, 1, usual, 0.01)
    return {"refiner": switch, "refiner.checkpoint": checkpoint, "refiner.switch_at": switch_at}


def group_switch(label: str, elem_id: str) -> gr.Checkbox:
    """The head of a group of controls, which are shown and count while it is ticked."""
    return gr.Checkbox(label=label, elem_id=elem_id, elem_classes="group-head", container=False, min_width=0)


def build_sizes(task: str, *tools: tuple[str, str]) -> tuple[Fields, list[gr.Button]]:
    """Size and number of the images, with the button that swaps the sides, and more by symbol and id."""
    with gr.Row(elem_classes="fields halves"):
        with gr.Row(elem_classes="with-tools"):
            with gr.Column(min_width=0):
                width = side("Width", f"{task}_width")
                height = side("Height", f"{task}_height")
            with gr.Column(elem_classes="tools", min_width=0):
                buttons = [tool(*each) for each in (("⇅", f"{task}_res_switch_btn"), *tools)]
        with gr.Column(min_width=0):
            batch_count = slider("Batch count", f"{task}_batch_count", 1, 100, 1)
            batch_size = slider("Batch size", f"{task}_batch_size", 1, 8, 1)
    sides = {"width": width, "height": height}
    return {**sides, "batch_count": batch_count, "batch_size": batch_size}, buttons


def build_guidance(task: str) -> gr.Slider:
    """How closely the prompt is followed."""
    return slider("CFG Scale", f"{task}_cfg_scale", 1, 30, DEFAULTS.cfg_scale, 0.5)


def build_seed(task: str) -> tuple[Fields, tuple[gr.Button, gr.Button]]:
    """The seed and its buttons; Extra shows the row that `build_variation` makes."""
    with gr.Row(elem_classes="with-tools seeds"):
        seed = gr.Number(DEFAULTS.seed, label="Seed", elem_id=f"{task}_seed", precision=0, min_width=0)
        random_seed = tool("⚄", f"{task}_random_seed")
        reuse_seed = tool("♻", f"{task}_reuse_seed")
        extra = gr.Checkbox(
            label="Extra", elem_id=f"{task}_subseed_show", elem_classes="extra", container=False, min_width=0
        )
    return {"seed": seed, "variation": extra}, (random_seed, reuse_seed)


def build_variation(task: str) -> tuple[Fields, tuple[gr.Button, gr.Button]]:
    """What Extra shows: the seed to vary towards, and the size the noise is taken from."""
    usual = Variation()
    with gr.Column(elem_id=f"{task}_seed_extras", elem_classes="extras", min_width=0):
        with gr.Row(elem_classes="fields halves"):
            with gr.Row(elem_classes="with-tools"):
                subseed = gr.Number(
                    usual.seed, label="Variation seed", elem_id=f"{task}_subseed", precision=0, min_width=0
                )
                random_subseed = tool("⚄", f"{task}_random_subseed")
                reuse_subseed = tool("♻", f"{task}_reuse_subseed")
            strength = slider("Variation strength", f"{task}_subseed_strength", 0, 1, usual.strength, 0.01)
        with gr.Row(elem_classes="fields halves"):
            from_width = slider("Resize seed from width", f"{task}_seed_resize_from_w", 0, 2048, 0, 8)
            from_height = slider("Resize seed from height", f"{task}_seed_resize_from_h", 0, 2048, 0, 8)
    fields = {
        "variation.seed": subseed,
        "variation.strength": strength,
        "variation.from_width": from_width,
        "variation.from_height": from_height,
    }
    return fields, (random_subseed, reuse_subseed)


def build_overrides(task: str) -> Fields:
    """Settings that count for this form only; shown while there are any."""
    chips = gr.Dropdown(
        [],
        multiselect=True,
        allow_custom_value=True,
        label="Override settings",
        elem_id=f"{task}_override_settings",
        elem_classes="overrides",
        min_width=0,
    )
    return {values.OVERRIDES: chips}


def slider(label: str, elem_id: str, low: float, high: float, usual: float, step: float = 1) -> gr.Slider:
    """A slider with its number box."""
    return gr.Slider(low, high, value=usual, step=step, label=label, elem_id=elem_id, min_width=0)


def side(label: str, elem_id: str) -> gr.Slider:
    """Width or height of the image in pixels."""
    return slider(label, elem_id, 64, 2048, USUAL_SIDE, 8)
