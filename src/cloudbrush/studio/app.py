"""The page: which handler each control calls, and how it is put into our web application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI

from cloudbrush.client import Client
from cloudbrush.studio import draft
from cloudbrush.studio.endpoint_handlers import EndpointHandlers
from cloudbrush.studio.form_handlers import FormHandlers
from cloudbrush.studio.job_handlers import JobHandlers
from cloudbrush.studio.layout import build_page
from cloudbrush.studio.theme import SCRIPT, STYLES, theme
from cloudbrush.studio.tips import TIPS
from cloudbrush.studio.wiring_endpoints import wire_sagemaker
from cloudbrush.studio.wiring_forms import wire_forms, wire_memory, wire_restored_pictures
from cloudbrush.studio.wiring_jobs import wire_endpoints, wire_jobs, wire_output

OPEN_PAGES = 1000  # events that may run at a time: each page follows its job and its job list
GLANCE = 0.01  # seconds between Gradio's looks into its queue of events
REMEMBERED_PAGES = 200  # sessions whose dropdown entries Gradio keeps, about 0.2 MB each
CACHE_SWEEP, CACHE_AGE = 3600, 24 * 3600  # seconds; images are fetched again when asked for


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


def script() -> str:
    """What the page does by itself: keys, tooltips, announcements."""
    written = {"__TIPS__": TIPS, "__NAMES__": draft.NAMES}
    text = SCRIPT.read_text()
    for mark, value in written.items():
        text = text.replace(mark, json.dumps(value))
    return text


def build(client: Client) -> gr.Blocks:
    """The page over a client."""
    with gr.Blocks(
        title="Cloudbrush", analytics_enabled=False, delete_cache=(CACHE_SWEEP, CACHE_AGE)
    ) as blocks:
        page = build_page()
        cache = page.output.gallery.GRADIO_CACHE
        usual = {name: component.value for name, component in zip(draft.NAMES, page.remembered, strict=True)}
        forms, jobs = FormHandlers(client, cache, usual), JobHandlers(client, cache)
        # One event runs its listeners one after the other, each to its end: what is quick is wired first,
        # and only the last listener of an event may go on for as long as a job does.
        wire_memory(page)
        wire_forms(page, forms)
        wire_output(page, jobs)
        loaded = blocks.load(forms.restore, page.draft, page.remembered, js=draft.LOAD, **page.quiet)
        wire_restored_pictures(page, forms, loaded)
        listing = wire_endpoints(page, jobs, loaded)
        wire_sagemaker(page, EndpointHandlers(client), listing)
        wire_jobs(page, forms, jobs, loaded)
    blocks.max_threads = OPEN_PAGES
    blocks.state_session_capacity = REMEMBERED_PAGES
    blocks.queue(default_concurrency_limit=None)
    # Gradio looks a thousand times a second for something to do: 6 % of a core, day and night.
    blocks._queue.sleep_when_free = GLANCE
    blocks._queue.progress_update_sleep_when_free = 1.0  # for gr.Progress, which we do not use
    return blocks
