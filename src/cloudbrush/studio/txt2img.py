"""The txt2img tab: prompts and parameters, named and ranged as in the WebUI."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from cloudbrush.domain.generation import HiresFix
from cloudbrush.domain.sampling import SAMPLERS, SCHEDULES
from cloudbrush.domain.upscaling import BUILTIN_UPSCALERS
from cloudbrush.studio import parameters
from cloudbrush.studio.networks import Networks, build_networks
from cloudbrush.studio.parameters import Counted, Fields, Form, Tools, counted, group_switch, slider
from cloudbrush.studio.quicksettings import Quick
from cloudbrush.studio.values import TXT2IMG

USUAL = HiresFix()
SAME = ""  # the value of "Use same ..."
SIZE_PATHS = (
    "hires",
    "width",
    "height",
    "hires.scale",
    "hires.resize_width",
    "hires.resize_height",
)


@dataclass(frozen=True)
class Txt2ImgTab:
    """The components of the tab."""

    form: Form
    hires_size: gr.HTML
    networks: Networks


def build_txt2img(quick: Quick) -> Txt2ImgTab:
    """The tab's content."""
    prompt_fields, prompts = parameters.build_prompts(TXT2IMG)
    with (
        gr.Column(elem_id="txt2img_settings", elem_classes="card settings", min_width=0),
        build_networks(TXT2IMG) as networks,
    ):
        sampling = parameters.build_sampling(TXT2IMG)
        with gr.Row(elem_classes="groups"):
            hires, size, hires_prompts = _build_hires()
            refiner = parameters.build_refiner(TXT2IMG)
        sizes, (swap,) = parameters.build_sizes(TXT2IMG)
        with gr.Row(elem_classes="fields halves"):
            cfg_scale = parameters.build_guidance(TXT2IMG)
            seed, seed_tools = parameters.build_seed(TXT2IMG)
        variation, variation_tools = parameters.build_variation(TXT2IMG)
        overrides = parameters.build_overrides(TXT2IMG)
    fields = {
        **quick.fields,
        **prompt_fields,
        **sampling,
        **hires,
        **refiner,
        **sizes,
        "cfg_scale": cfg_scale,
        **seed,
        **variation,
        **overrides,
    }
    tools = Tools(swap, *seed_tools, *variation_tools)
    return Txt2ImgTab(Form(TXT2IMG, fields, (*prompts, *hires_prompts), tools), size, networks)


def _build_hires() -> tuple[Fields, gr.HTML, tuple[Counted, Counted]]:
    with gr.Column(elem_id="txt2img_hr", elem_classes="group", min_width=0):
        switch = group_switch("Hires. fix", "txt2img_hr-checkbox")
        size = gr.HTML("", elem_id="txtimg_hr_finalres", elem_classes="group-note")
        with gr.Column(elem_classes="group-body", min_width=0):
            with gr.Row(elem_classes="fields thirds"):
                upscaler = gr.Dropdown(
                    list(BUILTIN_UPSCALERS),
                    value=USUAL.upscaler,
                    label="Upscaler",
                    elem_id="txt2img_hr_upscaler",
                    min_width=0,
                )
                steps = slider("Hires steps", "txt2img_hires_steps", 0, 150, USUAL.steps)
                strength = slider(
                    "Denoising strength",
                    "txt2img_denoising_strength",
                    0,
                    1,
                    USUAL.denoising_strength,
                    0.01,
                )
            with gr.Row(elem_classes="fields thirds"):
                scale = slider("Upscale by", "txt2img_hr_scale", 1, 4, USUAL.scale, 0.05)
                width = slider("Resize width to", "txt2img_hr_resize_x", 0, 2048, 0, 8)
                height = slider("Resize height to", "txt2img_hr_resize_y", 0, 2048, 0, 8)
            models = _build_hires_models()
            with gr.Row(elem_classes="fields halves"):
                prompt = counted("Hires prompt", "hires_prompt", "hires_token_counter", 2, "As above")
                negative = counted(
                    "Hires negative prompt",
                    "hires_neg_prompt",
                    "hires_negative_token_counter",
                    2,
                    "As above",
                    negative=True,
                )
    fields = {
        "hires": switch,
        "hires.upscaler": upscaler,
        "hires.steps": steps,
        "hires.denoising_strength": strength,
        "hires.scale": scale,
        "hires.resize_width": width,
        "hires.resize_height": height,
        **models,
        "hires.prompt": prompt.box,
        "hires.negative_prompt": negative.box,
    }
    return fields, size, (prompt, negative)


def _build_hires_models() -> Fields:
    def choice(label: str, elem_id: str, same: str, names: list[str]) -> gr.Dropdown:
        choices = [(same, SAME), *((name, name) for name in names)]
        return gr.Dropdown(choices, value=SAME, label=label, elem_id=elem_id, min_width=0)

    with gr.Row(elem_classes="fields thirds"):
        checkpoint = choice("Checkpoint", "hr_checkpoint", "Use same checkpoint", [])
        samplers = [sampler.name for sampler in SAMPLERS]
        sampler = choice("Hires sampling method", "hr_sampler", "Use same sampler", samplers)
        schedules = [schedule.name for schedule in SCHEDULES]
        schedule = choice("Hires schedule type", "hr_scheduler", "Use same scheduler", schedules)
    return {"hires.checkpoint": checkpoint, "hires.sampler": sampler, "hires.schedule": schedule}


def hires_size(
    on: bool, width: float, height: float, scale: float, resize_width: float, resize_height: float
) -> str:
    """What hires fix does to the size, such as "from 512x512 to 1024x1024"; nothing while it is off."""
    sides = (width, height, scale, resize_width, resize_height)
    if not on or any(value is None for value in sides):
        return ""
    fix = HiresFix.model_construct(
        scale=scale, resize_width=int(resize_width), resize_height=int(resize_height)
    )
    end = fix.size(int(width), int(height))
    return f"<span>from {width:g}x{height:g} to {end[0]}x{end[1]}</span>"
