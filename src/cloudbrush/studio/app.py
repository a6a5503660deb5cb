"""The page: its layout, which handler each control calls, and how it is put into our web application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.events import Dependency

from cloudbrush.client import Client
from cloudbrush.studio import draft, handlers
from cloudbrush.studio.cloud_panel import Panel, build_panel
from cloudbrush.studio.handlers import Handlers
from cloudbrush.studio.output import Output, build_output
from cloudbrush.studio.theme import QUIET, STYLES, script, theme
from cloudbrush.studio.txt2img import (
    Buttons,
    Form,
    Prompts,
    build_checkpoint,
    build_parameters,
    build_prompts,
)

# Values as the browser sends them: a page that Gradio no longer remembers may still submit what it shows.
AS_SENT = {"preprocess": False}
OPEN_PAGES = 1000  # events that may run at a time: each page follows its job and its job list
GLANCE = 0.01  # seconds between Gradio's looks into its queue of events
REMEMBERED_PAGES = 200  # sessions whose dropdown entries Gradio keeps, about 0.2 MB each
CONFIRM_DELETE = "(id) => confirm('Forget this job and its images?') ? id : ''"
CACHE_SWEEP, CACHE_AGE = 3600, 24 * 3600  # seconds; images are fetched again when asked for


@dataclass(frozen=True)
class Page:
    """The components of the page."""

    form: Form
    prompts: Prompts
    buttons: Buttons
    panel: Panel
    output: Output
    inference_id: gr.Textbox  # the job shown in Output: whoever sets it shows that job
    generate: gr.Button
    notice: gr.HTML
    refresh_checkpoints: gr.Button
    draft: gr.BrowserState

    @property
    def remembered(self) -> list[Any]:
        """The components whose values outlive a reload, in the order of `draft.NAMES`."""
        return [*self.form.components, self.panel.endpoint, self.inference_id]


def mount(app: FastAPI, url: str) -> FastAPI:
    """Put the studio at `/` of `app`, reaching the control plane at `url`.

    Mount last: a route added to `app` afterwards is hidden behind the page.
    """
    client = Client(url)
    gr.mount_gradio_app(
        app,
        build(client),
        path="/",
        theme=theme(),
        css_paths=[STYLES],
        js=script(),
        head='<meta name="description" content="Cloudbrush paints images from text, here or in the cloud.">',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
    )
    app.router.lifespan_context = _closing(client, app.router.lifespan_context)
    return app


def _closing(client: Client, lifespan: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @asynccontextmanager
    async def with_client(app: FastAPI) -> AsyncIterator[Any]:
        async with client, lifespan(app) as state:
            yield state

    return with_client


def build(client: Client) -> gr.Blocks:
    """The page over a client."""
    with gr.Blocks(
        title="Cloudbrush", analytics_enabled=False, delete_cache=(CACHE_SWEEP, CACHE_AGE)
    ) as blocks:
        page = _layout()
        handle = Handlers(client, page.output.gallery.GRADIO_CACHE)
        # One event runs its listeners one after the other, each to its end: what is quick is wired first,
        # and only the last listener of an event may go on for as long as a job does.
        _wire_memory(page)
        _wire_form(page, handle)
        _wire_output(page, handle)
        loaded = blocks.load(handle.restore, page.draft, page.remembered, **QUIET)
        _wire_endpoints(page, handle, loaded)
        _wire_jobs(page, handle, loaded)
    blocks.max_threads = OPEN_PAGES
    blocks.state_session_capacity = REMEMBERED_PAGES
    blocks.queue(default_concurrency_limit=None)
    # Gradio looks a thousand times a second for something to do: 6 % of a core, day and night.
    blocks._queue.sleep_when_free = GLANCE
    blocks._queue.progress_update_sleep_when_free = 1.0  # for gr.Progress, which we do not use
    return blocks


def _layout() -> Page:
    with gr.Row(elem_id="topbar"):
        gr.HTML("<h1>Cloudbrush</h1>", elem_id="brand")
        checkpoint, refresh = build_checkpoint()
    with gr.Tabs(elem_id="tabs"), gr.Tab("txt2img", id="txt2img", elem_id="tab_txt2img"):  # noqa: SIM117
        with gr.Row(elem_id="txt2img_columns"):
            with gr.Column(elem_id="txt2img_left", min_width=0):
                prompts = build_prompts()
                form, buttons = build_parameters(checkpoint, prompts)
                panel = build_panel()
            with gr.Column(elem_id="txt2img_right", min_width=0):
                with gr.Column(elem_id="txt2img_action", min_width=0):
                    generate = gr.Button("Generate", variant="primary", elem_id="txt2img_generate")
                    notice = gr.HTML("", elem_id="txt2img_notice")
                inference_id, output = build_output()
    return Page(
        form, prompts, buttons, panel, output, inference_id, generate, notice, refresh, draft.build_draft()
    )


def _wire_memory(page: Page) -> None:
    remembered = page.remembered
    changes = [component.change for component in remembered]
    gr.on(changes, None, remembered, page.draft, js=draft.SAVE, **QUIET)


def _wire_form(page: Page, handle: Handlers) -> None:
    form, prompts, buttons = page.form, page.prompts, page.buttons
    for box, counter in (
        (prompts.prompt, prompts.counter),
        (prompts.negative_prompt, prompts.negative_counter),
    ):
        # `change`, not `input`: values that are set from outside count too.
        box.change(handlers.tokens, box, counter, queue=False, trigger_mode="always_last", **QUIET)
    sides = [form.width, form.height]
    form.checkpoint.input(handle.native_size, form.checkpoint, sides, **AS_SENT, **QUIET)
    page.refresh_checkpoints.click(
        handle.refresh_checkpoints, form.checkpoint, form.checkpoint, **AS_SENT, **QUIET
    )
    buttons.swap.click(None, sides, sides, js="(width, height) => [height, width]", **QUIET)
    buttons.random_seed.click(None, None, form.seed, js="() => -1", **QUIET)
    buttons.reuse_seed.click(handlers.reuse_seed, page.output.infotext, form.seed, **QUIET)


def _wire_output(page: Page, handle: Handlers) -> None:
    output, shown = page.output, page.inference_id
    output.gallery.select(handle.select, shown, [output.infotext, output.save], **QUIET)
    output.cancel.click(handle.cancel, shown, None, **QUIET)
    shown.change(handle.show, shown, output.components, trigger_mode="multiple", **QUIET)


def _wire_endpoints(page: Page, handle: Handlers, loaded: Dependency) -> None:
    panel = page.panel
    listing = {
        "fn": handle.list_endpoints,
        "inputs": panel.endpoint,
        "outputs": [panel.endpoint, panel.note, page.generate],
        "trigger_mode": "multiple",
        **AS_SENT,
        **QUIET,
    }
    loaded.then(**listing)
    # Also when there is something to tell: an endpoint that refused a job is not what the list says.
    gr.on([panel.endpoint.change, panel.refresh_endpoints.click, page.notice.change], **listing)


def _wire_jobs(page: Page, handle: Handlers, loaded: Dependency) -> None:
    panel, filters, shown = page.panel, page.panel.filters, page.inference_id
    revealed = [panel.filter_row, *filters.advanced_components]
    # Not Gradio's "once", which drops what comes while the one before is just ending.
    last = {"trigger_mode": "always_last", **QUIET}
    filters.advanced.input(handle.show_filters, filters.advanced, revealed, **last)
    asked = [panel.endpoint, *page.form.components]
    submitted = page.generate.click(
        handle.submit, asked, [shown, page.notice], trigger_mode="multiple", **AS_SENT, **QUIET
    )
    deleted = page.output.delete.click(handle.delete, shown, shown, js=CONFIRM_DELETE, **QUIET)
    panel.jobs.input(None, panel.jobs, shown, js="(id) => id", **QUIET)
    listing = {
        "fn": handle.list_jobs,
        "inputs": [shown, *filters.components],
        "outputs": panel.jobs,
        "trigger_mode": "multiple",
        **QUIET,
    }
    for before in (loaded, submitted, deleted):
        before.then(**listing)
    changes = [component.change for component in filters.components]
    gr.on([panel.jobs.input, panel.refresh_jobs.click, *changes], **listing)
