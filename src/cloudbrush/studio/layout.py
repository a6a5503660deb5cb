"""The page's layout: quick settings on top, the tabs and the panel on the left, Output on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from cloudbrush.studio import draft, values
from cloudbrush.studio.cloud_panel import Panel, build_panel
from cloudbrush.studio.img2img import Img2ImgTab, build_img2img
from cloudbrush.studio.output import Output, Sends, build_output
from cloudbrush.studio.parameters import Fields, Form
from cloudbrush.studio.png_info import PngInfo, build_png_info
from cloudbrush.studio.quicksettings import Quick, build_quick
from cloudbrush.studio.sagemaker_tab import SageMakerTab, build_sagemaker
from cloudbrush.studio.settings_tab import build_settings
from cloudbrush.studio.theme import QUIET, tool
from cloudbrush.studio.txt2img import Txt2ImgTab, build_txt2img

PNG_INFO, SAGEMAKER, SETTINGS = "pnginfo", "sagemaker", "settings"  # the tabs without Output


@dataclass(frozen=True)
class Action:
    """The buttons of a form that stand above Output."""

    generate: gr.Button
    paste: gr.Button
    clear: gr.Button


@dataclass(frozen=True)
class Page:
    """The components of the page."""

    quick: Quick
    tabs: gr.Tabs
    txt2img: Txt2ImgTab
    img2img: Img2ImgTab
    png_info: PngInfo
    sagemaker: SageMakerTab
    settings: Fields
    reset_settings: gr.Button
    panel: Panel
    actions: dict[str, Action]  # by task
    notice: gr.HTML
    inference_id: gr.Textbox  # the job shown in Output: whoever sets it shows that job
    output: Output
    sends: Sends
    draft: gr.JSON

    @property
    def quiet(self) -> dict[str, Any]:
        """For every listener: one place for its state, since Gradio walks the page for each output's."""
        return {"show_progress_on": self.notice, **QUIET}

    @property
    def forms(self) -> tuple[Form, Form]:
        """The forms of both tabs that paint."""
        return self.txt2img.form, self.img2img.form

    @property
    def setting_components(self) -> list[Any]:
        """The settings, in the order of `values.SETTING_PATHS`."""
        return [self.settings[path] for path in values.SETTING_PATHS]

    @property
    def remembered(self) -> list[Any]:
        """The components whose values outlive a reload, in the order of `draft.NAMES`."""
        named = dict(self.settings)
        for form in self.forms:
            named |= {draft.name(form.task, path): component for path, component in form.fields.items()}
        named |= {draft.ENDPOINT: self.panel.endpoint, draft.SHOWN: self.inference_id}
        return [named[name] for name in draft.NAMES]


def build_page() -> Page:
    """Everything on the page, without what it does."""
    with gr.Row(elem_id="topbar"):
        gr.HTML("<h1>Cloudbrush</h1>", elem_id="brand")
        quick = build_quick()
    with gr.Row(elem_id="columns"):
        with gr.Column(elem_id="left", min_width=0):
            with gr.Tabs(elem_id="tabs") as tabs:
                with _tab(values.TXT2IMG):
                    txt2img = build_txt2img(quick)
                with _tab(values.IMG2IMG):
                    img2img = build_img2img(quick)
                with _tab(PNG_INFO, "PNG Info"):
                    png_info = build_png_info()
                with _tab(SAGEMAKER, "Amazon SageMaker") as opened:
                    sagemaker = build_sagemaker(opened)
                with _tab(SETTINGS, "Settings"):
                    settings, reset = build_settings()
            panel = build_panel()
        with gr.Column(elem_id="right", min_width=0):
            with gr.Column(elem_id="action", min_width=0):
                actions = {task: _build_action(task) for task in values.MODELS}
                notice = gr.HTML("", elem_id="notice")
            inference_id, output, sends = build_output()
    return Page(
        quick,
        tabs,
        txt2img,
        img2img,
        png_info,
        sagemaker,
        settings,
        reset,
        panel,
        actions,
        notice,
        inference_id,
        output,
        sends,
        draft.build_draft(),
    )


def _tab(name: str, title: str = "") -> gr.Tab:
    return gr.Tab(title or name, id=name, elem_id=f"tab_{name}")


def _build_action(task: str) -> Action:
    with gr.Row(elem_id=f"{task}_actions_column", elem_classes=f"action for-{task}"):
        generate = gr.Button(
            "Generate", variant="primary", elem_id=f"{task}_generate", elem_classes="generate", min_width=0
        )
        paste = tool("↙", f"{task}_paste")
        clear = tool("✕", f"{task}_clear_prompt")
    return Action(generate, paste, clear)
