"""What the controls do, without a browser."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from cloudbrush.domain.endpoint import THIS_MACHINE, EndpointState
from cloudbrush.domain.job import EventKind, JobState
from cloudbrush.studio import draft, handlers, output, txt2img
from cloudbrush.studio.cloud_panel import NO_ENDPOINT, NO_JOB
from cloudbrush.studio.handlers import Handlers
from tests import builders
from tests.studio.fake_client import PNG, FakeClient, endpoint

SOON = 5.0  # seconds
PAGE: Any = SimpleNamespace(session_hash="page")
NO_FILTERS = (False, False, "", [], "", "", None, None)
VALUES = {
    "prompt": "a red circle",
    "negative_prompt": "",
    "checkpoint": "pocket",
    "sampler": "Euler",
    "schedule": "Automatic",
    "steps": 20,
    "width": 128,
    "height": 128,
    "batch_count": 1,
    "batch_size": 1,
    "cfg_scale": 7,
    "seed": -1,
}


@pytest.fixture
def handle(client: FakeClient, tmp_path: Path) -> Handlers:
    return Handlers(client, str(tmp_path))  # type: ignore[arg-type]


async def submit(handle: Handlers, place: str = NO_ENDPOINT, **changes: Any) -> tuple[Any, str]:
    values = {**VALUES, **changes}
    return await handle.submit(place, *(values[name] for name in txt2img.FIELDS))


def shown(updates: list[Any]) -> dict[str, Any]:
    return dict(zip(output.nothing(), updates, strict=True))


async def test_submitting_answers_with_the_inference_id(handle: Handlers, client: FakeClient) -> None:
    job_id, notice = await submit(handle, "pocket", steps=33)
    assert notice == ""
    assert (await client.job(job_id)).generation.steps == 33
    assert (await client.job(job_id)).endpoint == "pocket"


async def test_without_an_endpoint_this_machine_paints(handle: Handlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle)
    assert (await client.job(job_id)).endpoint == THIS_MACHINE


async def test_an_endpoint_not_in_service_runs_nothing_and_says_so(
    handle: Handlers, client: FakeClient
) -> None:
    client.deployed = [endpoint("pocket", EndpointState.CREATING), endpoint(THIS_MACHINE)]
    job_id, notice = await submit(handle, "pocket")
    assert job_id == gr.skip()
    assert "Endpoint &#x27;pocket&#x27; is Creating." in notice
    assert "Choose another." in notice
    assert client.stored == {}


async def test_a_wrong_value_is_told_and_not_submitted(handle: Handlers, client: FakeClient) -> None:
    _, notice = await submit(handle, width=333)
    assert "Width: Input should be a multiple of 8." in notice
    assert client.stored == {}


async def test_output_shows_the_image_with_its_own_bytes(handle: Handlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle)
    views = handle.show(job_id, PAGE)
    assert "Waiting" in shown(await anext(views))["stage"]["value"]
    await client.start(job_id)
    await client.paint(job_id)
    async with asyncio.timeout(SOON):
        told = [shown(updates) async for updates in views]
    [(path, alt)] = told[-1]["gallery"]["value"]
    assert Path(path).read_bytes() == PNG + b"0"
    assert Path(path).name == "00000-1.png"
    assert alt == "a red circle"


async def test_an_older_job_never_overwrites_the_newer_one(handle: Handlers, client: FakeClient) -> None:
    first, _ = await submit(handle)
    second, _ = await submit(handle)
    older = handle.show(first, PAGE)
    await anext(older)
    newer = handle.show(second, PAGE)
    await anext(newer)
    await client.start(first)
    await client.paint(first)
    async with asyncio.timeout(SOON):
        assert [updates async for updates in older] == []
    await newer.aclose()


async def test_a_job_that_is_gone_is_told(handle: Handlers) -> None:
    [updates] = [updates async for updates in handle.show("none", PAGE)]
    assert "There is no job none." in shown(updates)["stage"]["value"]


async def test_the_job_list_follows_states(handle: Handlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle)
    lists = handle.list_jobs(PAGE, job_id, *NO_FILTERS)
    first = await anext(lists)
    assert first["value"] == job_id
    assert "-->queued-->" in first["choices"][1][0]
    await client.end(job_id, JobState.CANCELLED)
    async with asyncio.timeout(SOON):
        told = [update async for update in lists]
    assert "-->cancelled-->" in told[-1]["choices"][1][0]


async def test_an_endpoint_that_comes_up_is_told_without_being_asked(
    handle: Handlers, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "ENDPOINT_LOOK", 0.01)
    client.deployed = [endpoint("pocket", EndpointState.CREATING)]
    lists = handle.list_endpoints("pocket", PAGE)
    assert (await anext(lists))[2] == "Generate"
    client.deployed = [endpoint("pocket")]
    async with asyncio.timeout(SOON):
        told = [updates async for updates in lists]
    assert told[-1][2] == "Generate on Cloud"


async def test_a_page_comes_back_as_it_was(handle: Handlers) -> None:
    remembered = {"prompt": "a cat", "width": 512, "endpoint": "pocket", "inference_id": "x"}
    values = dict(zip(draft.NAMES, await handle.restore(remembered), strict=True))
    assert (values["prompt"], values["width"], values["inference_id"]) == ("a cat", 512, "x")
    assert values["checkpoint"]["value"] == "pocket"
    assert values["endpoint"]["value"] == "pocket"
    assert values["height"] == 128  # not remembered: the checkpoint's own


async def test_a_deleted_job_leaves_output_empty(handle: Handlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle)
    assert await handle.delete("") == gr.skip()  # the person thought better of it
    assert await handle.delete(job_id) == NO_JOB
    assert client.stored == {}


async def test_an_error_becomes_a_short_message(handle: Handlers) -> None:
    with pytest.raises(gr.Error) as told:
        await handle.delete("none")
    assert told.value.message == "There is no job none."


async def test_cancelling_is_told_by_the_jobs_own_events(handle: Handlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle)
    views = handle.show(job_id, PAGE)
    await anext(views)
    await handle.cancel(job_id)
    async with asyncio.timeout(SOON):
        told = [shown(updates) async for updates in views]
    assert "Cancelled" in told[-1]["state"]["value"]
    assert client.happened[job_id][-1].kind is EventKind.FINISHED


async def test_an_image_chosen_while_the_job_runs_stays_chosen(handle: Handlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle, batch_count=2)
    views = handle.show(job_id, PAGE)
    await anext(views)
    await client.start(job_id)
    for index in range(2):
        painted = builders.image(job_id, index=index).model_copy(update={"infotext": f"image {index}"})
        await client.tell(job_id, EventKind.IMAGE, **painted.model_dump())
    while shown(await anext(views))["infotext"]["value"] != "image 0":
        pass
    chosen: Any = SimpleNamespace(index=1, value={"image": {"path": "/1.png"}})
    assert await handle.select(job_id, chosen, PAGE) == (gr.skip(), gr.skip())
    assert shown(await anext(views))["infotext"]["value"] == "image 1"
    await views.aclose()


def test_the_values_of_these_tests_are_the_forms() -> None:
    assert set(VALUES) == set(txt2img.FIELDS)
    assert txt2img.generation(VALUES).sampler == builders.generation(sampler="Euler").sampler
