"""Which handler each control of the forms, the quick settings, PNG Info and the settings calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from cloudbrush.studio import draft, form_handlers, parameters, settings_tab, txt2img, values
from cloudbrush.studio.form_handlers import FormHandlers
from cloudbrush.studio.layout import Page
from cloudbrush.studio.networks import Networks
from cloudbrush.studio.parameters import Form
from cloudbrush.studio.theme import AS_SENT
from cloudbrush.studio.values import INPAINT, MODE, OVER

# Not Gradio's "once", which drops what comes while the one before is just ending.
LATEST = {"trigger_mode": "always_last"}
AT_ONCE = {"queue": False, **LATEST}
# A picture that comes before the editor is there could not be painted over.
EDITOR_READY = "() => window.cloudbrush.editorReady()"
CLEAR = '(...prompts) => confirm("Delete the prompts?") ? prompts.map(() => "") : prompts'


def wire_memory(page: Page) -> None:
    """The browser remembers each value as it changes."""
    remembered = page.remembered
    changes = [component.change for component in remembered]
    gr.on(changes, None, remembered, js=draft.SAVE, **page.quiet)


def wire_forms(page: Page, handle: FormHandlers) -> None:
    """Everything around the forms but Generate."""
    for form in page.forms:
        _wire_prompts(page, form, handle)
        _wire_tools(page, form)
    _wire_models(page, handle)
    for tab in (page.txt2img, page.img2img):
        _wire_networks(page, tab.networks, handle)
    sizes = [page.txt2img.form.fields[path] for path in txt2img.SIZE_PATHS]
    gr.on(
        [size.change for size in sizes],
        txt2img.hires_size,
        sizes,
        page.txt2img.hires_size,
        **AT_ONCE,
        **page.quiet,
    )
    _wire_pictures(page, handle)
    _wire_sends(page, handle)
    page.reset_settings.click(settings_tab.usual, None, page.setting_components, **page.quiet)


def _wire_prompts(page: Page, form: Form, handle: FormHandlers) -> None:
    for prompt in form.prompts:
        # `change`, not `input`: values that are set from outside count too.
        tokens = partial(parameters.tokens, negative=prompt.negative)
        prompt.box.change(tokens, prompt.box, prompt.counter, **AT_ONCE, **page.quiet)
    action = page.actions[form.task]
    boxes = [form.fields["prompt"], form.fields["negative_prompt"]]
    action.clear.click(None, boxes, boxes, js=CLEAR, **page.quiet)
    action.paste.click(
        partial(handle.paste, form.task),
        [form.fields["prompt"], *page.setting_components],
        [*form.components, page.notice],
        **AS_SENT,
        **page.quiet,
    )


def _wire_tools(page: Page, form: Form) -> None:
    fields, tools, shown = form.fields, form.tools, page.output.infotext
    sides = [fields["width"], fields["height"]]
    tools.swap.click(None, sides, sides, js="(width, height) => [height, width]", **page.quiet)
    tools.random_seed.click(None, None, fields["seed"], js="() => -1", **page.quiet)
    tools.reuse_seed.click(form_handlers.reuse_seed, shown, fields["seed"], **page.quiet)
    variation = fields["variation.seed"]
    tools.random_variation.click(None, None, variation, js="() => -1", **page.quiet)
    tools.reuse_variation.click(form_handlers.reuse_variation, shown, variation, **page.quiet)


def _wire_models(page: Page, handle: FormHandlers) -> None:
    fields = dict(zip(draft.NAMES, page.remembered, strict=True))
    dropdowns = [fields[name] for name in form_handlers.MODEL_NAMES]
    page.quick.refresh.click(handle.refresh_models, dropdowns, dropdowns, **AS_SENT, **page.quiet)
    checkpoint = page.quick.fields["checkpoint"]
    checkpoint.input(handle.native_size, checkpoint, _sides(page), **AS_SENT, **page.quiet)


def _wire_networks(page: Page, networks: Networks, handle: FormHandlers) -> None:
    for network in networks:
        listing = partial(handle.cards, network.kind)
        gr.on(
            [network.tab.select, network.refresh.click], listing, None, network.cards, **LATEST, **page.quiet
        )
        network.cards.select(
            handle.choose, None, [page.quick.fields["checkpoint"], *_sides(page)], **LATEST, **page.quiet
        )


def _sides(page: Page) -> list[Any]:
    """Width and height, which follow the checkpoint that is chosen; in img2img they follow the picture."""
    return [page.txt2img.form.fields["width"], page.txt2img.form.fields["height"]]


def _wire_pictures(page: Page, handle: FormHandlers) -> None:
    form, pictures = page.img2img.form, page.img2img.pictures
    for mode, tab in pictures.ways.items():
        tab.select(None, None, form.fields[MODE], js=f"() => '{mode}'", **page.quiet)
    sides = [form.fields["width"], form.fields["height"]]
    page.img2img.detect_size.click(
        handle.detect_size, [form.fields[MODE], *pictures.components], sides, **LATEST, **page.quiet
    )


def _wire_sends(page: Page, handle: FormHandlers) -> None:
    info, sends, pictures = page.png_info, page.sends, page.img2img.pictures
    info.image.change(handle.read_picture, info.image, [info.note, info.infotext], **LATEST, **page.quiet)
    settings = page.setting_components
    filled = {form.task: [*form.components, page.notice] for form in page.forms}
    for button, text in ((sends.to_txt2img, page.output.infotext), (info.to_txt2img, info.infotext)):
        to_txt2img = [page.tabs, *filled[values.TXT2IMG]]
        button.click(handle.send_to_txt2img, [text, *settings], to_txt2img, **page.quiet)
    to_img2img = [page.tabs, *filled[values.IMG2IMG], pictures.tabs, pictures.image]
    shown = (page.output.save, page.output.infotext)
    dropped = (info.image, info.infotext)
    for button, mode, source in (
        (sends.to_img2img, OVER, shown),
        (sends.to_inpaint, INPAINT, shown),
        (info.to_img2img, OVER, dropped),
        (info.to_inpaint, INPAINT, dropped),
    ):
        sending = partial(handle.send_to_img2img, mode)
        sent = button.click(sending, [*source, *settings], to_img2img, **page.quiet)
        if mode == INPAINT:
            ready = sent.then(None, js=EDITOR_READY, **page.quiet)
            ready.then(handle.open_editor, source[0], pictures.editor, **page.quiet)


def wire_restored_pictures(page: Page, handle: FormHandlers, loaded: Dependency) -> None:
    """The pictures of img2img come back after a reload."""
    pictures, fields = page.img2img.pictures, page.img2img.form.fields
    mode, image, mask = (fields[path] for path in (MODE, "image", "inpainting.mask"))
    boxes = [pictures.tabs, pictures.image, pictures.base, pictures.mask]
    loaded.then(handle.restore_pictures, [mode, image, mask], boxes, **page.quiet)
    awaited = f"(mode) => mode === '{INPAINT}' ? window.cloudbrush.editorReady() : null"
    ready = loaded.then(None, mode, js=awaited, **page.quiet)
    ready.then(handle.restore_editor, [mode, image], pictures.editor, **page.quiet)
