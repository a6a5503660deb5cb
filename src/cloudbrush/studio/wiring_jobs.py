"""Which handler Generate, the panel and Output call."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from cloudbrush.studio.form_handlers import FormHandlers
from cloudbrush.studio.job_handlers import JobHandlers
from cloudbrush.studio.layout import Page
from cloudbrush.studio.parameters import Form
from cloudbrush.studio.theme import AS_SENT, QUIET
from cloudbrush.studio.values import IMG2IMG, MODE

EACH = {"trigger_mode": "multiple"}
CONFIRM_DELETE = "(id) => confirm('Forget this job and its images?') ? id : ''"
PICTURES = "mode_img2img"  # the element that is marked when a picture is missing


def wire_output(page: Page, handle: JobHandlers) -> None:
    """The job that is shown."""
    output, shown = page.output, page.inference_id
    output.gallery.select(handle.select, shown, [output.infotext, output.save], **page.quiet)
    output.cancel.click(handle.cancel, shown, None, **page.quiet)
    # Its own state is watched: an error there means that the server stopped (studio.js).
    shown.change(handle.show, shown, output.components, **EACH, **QUIET)


def wire_endpoints(page: Page, handle: JobHandlers, loaded: Dependency) -> dict[str, Any]:
    """The endpoint dropdown, its note, and what Generate says; how they are asked for again."""
    panel = page.panel
    listing = {
        "fn": handle.list_endpoints,
        "inputs": panel.endpoint,
        "outputs": [panel.endpoint, panel.note, *(action.generate for action in page.actions.values())],
        **AS_SENT,
        **EACH,
        **page.quiet,
    }
    loaded.then(**listing)
    # Also when there is something to tell: an endpoint that refused a job is not what the list says.
    gr.on([panel.endpoint.change, panel.refresh_endpoints.click, page.notice.change], **listing)
    return listing


def wire_jobs(page: Page, forms: FormHandlers, handle: JobHandlers, loaded: Dependency) -> None:
    """Generate, and the list of jobs."""
    panel, filters, shown = page.panel, page.panel.filters, page.inference_id
    revealed = [panel.filter_row, *filters.advanced_components]
    # Not Gradio's "once", which drops what comes while the one before is just ending.
    filters.advanced.input(
        handle.show_filters, filters.advanced, revealed, trigger_mode="always_last", **page.quiet
    )
    submitted = [_wire_generate(page, form, forms) for form in page.forms]
    deleted = page.output.delete.click(handle.delete, shown, shown, js=CONFIRM_DELETE, **page.quiet)
    panel.jobs.input(None, panel.jobs, shown, js="(id) => id", **page.quiet)
    listing = {
        "fn": handle.list_jobs,
        "inputs": [shown, *filters.components],
        "outputs": panel.jobs,
        **EACH,
        **page.quiet,
    }
    for before in (loaded, *submitted, deleted):
        before.then(**listing)
    changes = [component.change for component in filters.components]
    gr.on([panel.jobs.input, panel.refresh_jobs.click, *changes], **listing)


def _wire_generate(page: Page, form: Form, forms: FormHandlers) -> Dependency:
    ids = form.ids | {"image": PICTURES, "inpainting.mask": PICTURES, "endpoint": "cloud_endpoint"}
    submitting = {
        "fn": partial(forms.submit, form.task, ids),
        "inputs": [page.panel.endpoint, *form.components, *page.setting_components],
        "outputs": [page.inference_id, page.notice],
        **AS_SENT,
        **EACH,
        **page.quiet,
    }
    generate = page.actions[form.task].generate
    if form.task != IMG2IMG:
        return generate.click(**submitting)
    known = [form.fields["image"], form.fields["inpainting.mask"]]
    boxes = page.img2img.pictures.components
    return generate.click(forms.hand_in, [form.fields[MODE], *boxes], known, **EACH, **page.quiet).success(
        **submitting
    )
