"""What Output and the panel do, without a browser."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from cloudbrush.domain.endpoint import EndpointState
from cloudbrush.domain.job import EventKind, JobState
from cloudbrush.studio import cloud_panel, output
from cloudbrush.studio.cloud_panel import NO_JOB
from cloudbrush.studio.job_handlers import JobHandlers
from tests import builders
from tests.studio.fake_client import PNG, FakeClient, endpoint

SOON = 5.0  # seconds
PAGE: Any = SimpleNamespace(session_hash="page")
NO_FILTERS = (False, False, "", [], "", "", None, None)


@pytest.fixture
def handle(client: FakeClient, tmp_path: Path) -> JobHandlers:
    return JobHandlers(client, str(tmp_path))  # type: ignore[arg-type]


async def submit(client: FakeClient, **changes: Any) -> str:
    """A job somebody submitted."""
    return (await client.add(builders.job(generation=builders.generation(**changes)))).id


def shown(updates: list[Any]) -> dict[str, Any]:
    return dict(zip(output.nothing(), updates, strict=True))


async def test_output_shows_the_image_with_its_own_bytes(handle: JobHandlers, client: FakeClient) -> None:
    job_id = await submit(client)
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


async def test_an_older_job_never_overwrites_the_newer_one(handle: JobHandlers, client: FakeClient) -> None:
    first = await submit(client)
    second = await submit(client)
    older = handle.show(first, PAGE)
    await anext(older)
    newer = handle.show(second, PAGE)
    await anext(newer)
    await client.start(first)
    await client.paint(first)
    async with asyncio.timeout(SOON):
        assert [updates async for updates in older] == []
    await newer.aclose()


async def test_a_job_that_is_gone_is_told(handle: JobHandlers) -> None:
    [updates] = [updates async for updates in handle.show("none", PAGE)]
    assert "There is no job none." in shown(updates)["stage"]["value"]


async def test_the_job_list_follows_states(handle: JobHandlers, client: FakeClient) -> None:
    job_id = await submit(client)
    lists = handle.list_jobs(PAGE, job_id, *NO_FILTERS)
    first = await anext(lists)
    assert first["value"] == job_id
    assert "-->queued-->" in first["choices"][1][0]
    await client.end(job_id, JobState.CANCELLED)
    async with asyncio.timeout(SOON):
        told = [update async for update in lists]
    assert "-->cancelled-->" in told[-1]["choices"][1][0]


async def test_an_endpoint_that_comes_up_is_told_without_being_asked(
    handle: JobHandlers, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_panel, "ENDPOINT_LOOK", 0.01)
    client.deployed = [endpoint("pocket", EndpointState.CREATING)]
    lists = handle.list_endpoints("pocket", PAGE)
    assert (await anext(lists))[2] == "Generate"
    client.deployed = [endpoint("pocket")]
    async with asyncio.timeout(SOON):
        told = [updates async for updates in lists]
    assert told[-1][2] == "Generate on Cloud"


async def test_a_deleted_job_leaves_output_empty(handle: JobHandlers, client: FakeClient) -> None:
    job_id = await submit(client)
    assert await handle.delete("") == gr.skip()  # the person thought better of it
    assert await handle.delete(job_id) == NO_JOB
    assert client.stored == {}


async def test_an_error_becomes_a_short_message(handle: JobHandlers) -> None:
    with pytest.raises(gr.Error) as told:
        await handle.delete("none")
    assert told.value.message == "There is no job none."


async def test_cancelling_is_told_by_the_jobs_own_events(handle: JobHandlers, client: FakeClient) -> None:
    job_id = await submit(client)
    views = handle.show(job_id, PAGE)
    await anext(views)
    await handle.cancel(job_id)
    async with asyncio.timeout(SOON):
        told = [shown(updates) async for updates in views]
    assert "Cancelled" in told[-1]["state"]["value"]
    assert client.happened[job_id][-1].kind is EventKind.FINISHED


async def test_an_image_chosen_while_the_job_runs_stays_chosen(
    handle: JobHandlers, client: FakeClient
) -> None:
    job_id = await submit(client, batch_count=2)
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
