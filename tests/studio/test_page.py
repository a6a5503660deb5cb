"""How the page is put together."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloudbrush.studio import app
from cloudbrush.studio.tips import TIPS
from tests.studio.fake_client import FakeClient

CONTROLS = (
    gr.Button,
    gr.Checkbox,
    gr.DateTime,
    gr.DownloadButton,
    gr.Dropdown,
    gr.Image,
    gr.ImageEditor,
    gr.Number,
    gr.Radio,
    gr.Slider,
    gr.Textbox,
)


UNSEEN = ("img2img_mode", "img2img_image_id", "img2img_mask_id")  # what the page itself remembers


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    return app.build(FakeClient())  # type: ignore[arg-type]


def test_every_control_has_a_name_and_a_tooltip(page: gr.Blocks) -> None:
    controls = [block.elem_id for block in page.blocks.values() if isinstance(block, CONTROLS)]
    assert set(controls) - set(UNSEEN) <= set(TIPS)
    assert len(controls) == len(set(controls))


def test_every_tooltip_belongs_to_something(page: gr.Blocks) -> None:
    assert set(TIPS) <= {block.elem_id for block in page.blocks.values()}


def test_only_the_last_listener_of_an_event_may_go_on_for_long(page: gr.Blocks) -> None:
    """Gradio runs the listeners of one event one after the other, each to its end."""
    listeners: dict[Any, list[Any]] = defaultdict(list)
    for function in page.fns.values():
        for target in function.targets:
            if target[1] != "then":
                listeners[target].append(function.fn)
    for target, functions in listeners.items():
        long = [inspect.isasyncgenfunction(function) for function in functions]
        assert not any(long[:-1]), target


def test_no_listener_is_offered_as_an_api_or_covers_what_it_changes(page: gr.Blocks) -> None:
    for function in page.fns.values():
        assert function.api_visibility == "private"
        assert function.show_progress == "hidden"


def test_no_page_waits_for_another(page: gr.Blocks) -> None:
    assert page._queue.max_thread_count >= app.OPEN_PAGES
    assert page._queue.default_concurrency_limit is None


def test_the_page_is_served_beside_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "Client", lambda _url: _Lasting())
    api = FastAPI()
    api.get("/api/v1/health")(lambda: "ok")
    with TestClient(app.mount(api, "http://127.0.0.1:1")) as browser:
        assert browser.get("/api/v1/health").json() == "ok"
        assert "Cloudbrush" in browser.get("/").text


class _Lasting(FakeClient):
    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None
