"""The img2img tab: a picture, perhaps a mask, and the same parameters as txt2img."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from cloudbrush.domain.generation import Img2Img, Inpainting
from cloudbrush.studio import parameters
from cloudbrush.studio.networks import Networks, build_networks
from cloudbrush.studio.parameters import Fields, Form, Tools, slider
from cloudbrush.studio.quicksettings import Quick
from cloudbrush.studio.values import IMG2IMG, INPAINT, MODE, OVER, UPLOAD

HEIGHT = 240  # pixels of the picture boxes
WHITE = "#ffffff"  # of the brush: what is painted is masked


@dataclass(frozen=True)
class Pictures:
    """What to paint over: one of three ways, each in its own tab."""

    tabs: gr.Tabs
    ways: dict[str, gr.Tab]  # by mode
    image: gr.Image  # img2img
    editor: gr.ImageEditor  # inpaint: the mask is painted on the picture
    base: gr.Image  # upload: picture and mask as files
    mask: gr.Image

    @property
    def components(self) -> list[Any]:
        """The boxes with pictures in them."""
        return [self.image, self.editor, self.base, self.mask]


@dataclass(frozen=True)
class Img2ImgTab:
    """The components of the tab."""

    form: Form
    pictures: Pictures
    detect_size: gr.Button
    networks: Networks


def build_img2img(quick: Quick) -> Img2ImgTab:
    """The tab's content."""
    prompt_fields, prompts = parameters.build_prompts(IMG2IMG)
    with (
        gr.Column(elem_id="img2img_settings", elem_classes="card settings", min_width=0),
        build_networks(IMG2IMG) as networks,
    ):
        pictures = _build_pictures()
        known = _build_known()
        inpainting = _build_inpainting()
        resize_mode = gr.Radio(
            list(get_args(Img2Img.model_fields["resize_mode"].annotation)),
            value=Img2Img.model_fields["resize_mode"].default,
            label="Resize mode",
            elem_id="resize_mode",
            min_width=0,
        )
        sampling = parameters.build_sampling(IMG2IMG)
        with gr.Row(elem_classes="groups"):
            refiner = parameters.build_refiner(IMG2IMG)
        sizes, (swap, detect_size) = parameters.build_sizes(IMG2IMG, ("⇲", "img2img_detect_image_size_btn"))
        with gr.Row(elem_classes="fields halves"):
            cfg_scale = parameters.build_guidance(IMG2IMG)
            usual = Img2Img.model_fields["denoising_strength"].default
            strength = slider("Denoising strength", "img2img_denoising_strength", 0, 1, usual, 0.01)
        with gr.Row(elem_classes="fields halves"):
            seed, seed_tools = parameters.build_seed(IMG2IMG)
        variation, variation_tools = parameters.build_variation(IMG2IMG)
        overrides = parameters.build_overrides(IMG2IMG)
    fields = {
        **quick.fields,
        **prompt_fields,
        **known,
        **inpainting,
        "resize_mode": resize_mode,
        **sampling,
        **refiner,
        **sizes,
        "cfg_scale": cfg_scale,
        "denoising_strength": strength,
        **seed,
        **variation,
        **overrides,
    }
    tools = Tools(swap, *seed_tools, *variation_tools)
    return Img2ImgTab(Form(IMG2IMG, fields, prompts, tools), pictures, detect_size, networks)


def _build_pictures() -> Pictures:
    def box(label: str, elem_id: str) -> gr.Image:
        return gr.Image(
            label=label,
            elem_id=elem_id,
            type="filepath",
            image_mode=None,  # the file as it is
            sources=["upload", "clipboard"],
            height=HEIGHT,
            buttons=["fullscreen"],
        )

    with gr.Tabs(elem_id="mode_img2img", elem_classes="picture-tabs") as tabs:
        with gr.Tab("img2img", id=OVER, elem_id="img2img_img2img_tab") as over:
            image = box("Picture to paint over", "img2img_image")
        with gr.Tab("Inpaint", id=INPAINT, elem_id="img2img_inpaint_tab") as inpaint:
            editor = gr.ImageEditor(
                label="Picture: paint over what is to change",
                elem_id="img2maskimg",
                type="pil",
                format="png",
                image_mode="RGBA",
                sources=["upload", "clipboard"],
                transforms=(),
                layers=False,
                brush=gr.Brush(default_size=40, colors=[WHITE], default_color=WHITE, color_mode="fixed"),
                height=HEIGHT + 120,
                buttons=["fullscreen"],
            )
        with (
            gr.Tab("Inpaint upload", id=UPLOAD, elem_id="img2img_inpaint_upload_tab") as upload,
            gr.Row(elem_classes="fields halves"),
        ):
            base = box("Picture", "img_inpaint_base")
            mask = box("Mask: white is painted", "img_inpaint_mask")
    return Pictures(tabs, {OVER: over, INPAINT: inpaint, UPLOAD: upload}, image, editor, base, mask)


def _build_known() -> Fields:
    """What the page knows of the pictures beside showing them: the mode, and their ids once handed in."""
    with gr.Row(elem_classes="unseen"):
        return {
            MODE: gr.Textbox(OVER, elem_id="img2img_mode", label="Mode"),
            "image": gr.Textbox("", elem_id="img2img_image_id", label="Image"),
            "inpainting.mask": gr.Textbox("", elem_id="img2img_mask_id", label="Mask"),
        }


def _build_inpainting() -> Fields:
    usual = {name: field.default for name, field in Inpainting.model_fields.items()}
    fills = [(fill, fill) for fill in get_args(Inpainting.model_fields["fill"].annotation)]

    def choice(label: str, elem_id: str, choices: list[tuple[str, Any]], chosen: Any) -> gr.Radio:
        return gr.Radio(choices, value=chosen, label=label, elem_id=elem_id, min_width=0)

    with gr.Column(elem_id="img2img_inpaint_controls", min_width=0):
        with gr.Row(elem_classes="fields halves"):
            blur = slider("Mask blur", "img2img_mask_blur", 0, 64, usual["blur"])
            padding = slider(
                "Only masked padding, pixels", "img2img_inpaint_full_res_padding", 0, 256, usual["padding"], 4
            )
        with gr.Row(elem_classes="fields halves"):
            modes = [("Inpaint masked", False), ("Inpaint not masked", True)]
            inverted = choice("Mask mode", "img2img_mask_mode", modes, usual["inverted"])
            areas = [("Whole picture", False), ("Only masked", True)]
            area = choice("Inpaint area", "img2img_inpaint_full_res", areas, usual["only_masked"])
        fill = choice("Masked content", "img2img_inpainting_fill", fills, usual["fill"])
    return {
        "inpainting.blur": blur,
        "inpainting.inverted": inverted,
        "inpainting.fill": fill,
        "inpainting.only_masked": area,
        "inpainting.padding": padding,
    }
