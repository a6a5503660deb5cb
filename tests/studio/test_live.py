"""Following jobs: what a page is told, and when."""

from __future__ import annotations

import asyncio

import pytest

from cloudbrush.domain.errors import NotFound
from cloudbrush.domain.job import EventKind, JobEvent, JobState
from cloudbrush.studio import live
from cloudbrush.studio.live import JobView, Watcher, Watches, follow, watch
from cloudbrush.studio.streams import Streams
from tests import builders
from tests.builders import START
from tests.studio.fake_client import FakeClient

SOON = 5.0  # seconds


def event(kind: EventKind, **data: object) -> JobEvent:
    return JobEvent(job_id="", seq=1, kind=kind, at=START, data=data)


def test_a_view_follows_the_steps_and_keeps_the_last_preview() -> None:
    view = JobView.of(builders.job()).after(event(EventKind.STARTED, attempt=1))
    view = view.after(event(EventKind.PROGRESS, step=1, steps=4, preview="data:one"))
    view = view.after(event(EventKind.PROGRESS, step=2, steps=4, preview=None))
    assert (view.job.state, view.step, view.steps, view.preview) == (JobState.RUNNING, 2, 4, "data:one")


def test_a_painted_image_takes_the_place_of_the_preview() -> None:
    job = builders.job()
    image = builders.image(job.id)
    view = JobView.of(job).after(event(EventKind.PROGRESS, step=1, steps=1, preview="data:one"))
    assert view.after(event(EventKind.IMAGE, **image.model_dump())).images == (image,)
    assert view.after(event(EventKind.IMAGE, **image.model_dump())).preview is None


def test_a_new_attempt_starts_from_nothing() -> None:
    job = builders.job()
    view = JobView.of(job).after(event(EventKind.PROGRESS, step=3, steps=4, preview="data:one"))
    view = view.after(event(EventKind.IMAGE, **builders.image(job.id).model_dump()))
    again = view.after(event(EventKind.QUEUED, lost="the worker died"))
    assert (again.step, again.preview, again.images) == (0, None, ())
    assert again.job.state is JobState.QUEUED


async def test_follow_shows_the_job_until_its_images_are_committed(client: FakeClient) -> None:
    job = await client.add(builders.job())
    views = follow(client, Streams(client), job.id, Watcher())  # type: ignore[arg-type]
    assert (await anext(views)).job.state is JobState.QUEUED  # type: ignore[union-attr]
    await client.start(job.id)
    await client.paint(job.id)
    seen = [view async for view in views]
    last = seen[-1]
    assert last is not None
    assert last.job == await client.job(job.id)
    assert last.images == last.job.images != ()


async def test_follow_skips_what_is_stale_when_the_page_is_slow(client: FakeClient) -> None:
    job = await client.add(builders.job())
    views = follow(client, Streams(client), job.id, Watcher())  # type: ignore[arg-type]
    await anext(views)
    for step in range(1, 51):
        await client.tell(job.id, EventKind.PROGRESS, step=step, steps=50, preview=None)
    view = await anext(views)
    assert view is not None
    assert view.step == 50
    await views.aclose()


async def test_following_a_finished_job_is_one_look(client: FakeClient) -> None:
    job = await client.add(builders.job())
    await client.start(job.id)
    await client.paint(job.id)
    assert len([view async for view in follow(client, Streams(client), job.id, Watcher())]) == 1  # type: ignore[arg-type]


async def test_following_an_unknown_job_says_so(client: FakeClient) -> None:
    with pytest.raises(NotFound):
        await anext(follow(client, Streams(client), "none", Watcher()))  # type: ignore[arg-type]


async def test_a_newer_watch_of_the_page_retires_the_older_one(client: FakeClient) -> None:
    job = await client.add(builders.job())
    watches = Watches()
    with watches.begin("page") as older:
        views = follow(client, Streams(client), job.id, older)  # type: ignore[arg-type]
        await anext(views)
        with watches.begin("other page"):
            assert not older.retired
        with watches.begin("page") as newer:
            async with asyncio.timeout(SOON):
                assert [view async for view in views] == []
            assert not newer.retired


async def test_a_silent_watch_gives_signs_of_life(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SIGN_OF_LIFE", 0.01)
    job = await client.add(builders.job())
    views = follow(client, Streams(client), job.id, Watcher())  # type: ignore[arg-type]
    await anext(views)
    await anext(views)  # the event that the job was accepted
    assert await anext(views) is None
    await views.aclose()


async def test_a_list_is_shown_again_only_when_a_state_changes(client: FakeClient) -> None:
    first, second = await client.add(builders.job()), await client.add(builders.job())
    calls = 0

    async def listed() -> list[object]:
        nonlocal calls
        calls += 1
        return list(client.stored.values())

    lists = watch(Streams(client), listed, Watcher())  # type: ignore[arg-type]
    async with asyncio.timeout(SOON):
        await anext(lists)
        await client.start(first.id)
        jobs = await _next_list(lists)
        assert [job.state for job in jobs] == [JobState.RUNNING, JobState.QUEUED]
        await client.tell(first.id, EventKind.PROGRESS, step=1, steps=2)
        await client.end(second.id, JobState.CANCELLED)
        jobs = await _next_list(lists)
        assert [job.state for job in jobs] == [JobState.RUNNING, JobState.CANCELLED]
        await client.paint(first.id)
        jobs = await _next_list(lists)
        assert jobs[0].state is JobState.SUCCEEDED
        with pytest.raises(StopAsyncIteration):
            await anext(lists)
    assert calls == 4


async def test_a_job_that_lost_an_attempt_does_not_make_the_list_spin(client: FakeClient) -> None:
    job = await client.add(builders.job())
    await client.start(job.id)
    await client.tell(job.id, EventKind.QUEUED, lost="the worker died")
    client.stored[job.id] = client.stored[job.id].released()
    await client.start(job.id)
    calls = 0

    async def listed() -> list[object]:
        nonlocal calls
        calls += 1
        return list(client.stored.values())

    lists = watch(Streams(client), listed, Watcher())  # type: ignore[arg-type]
    async with asyncio.timeout(SOON):
        await anext(lists)
        await client.paint(job.id)
        async for jobs in lists:
            last = jobs
    assert last is not None
    assert last[0].state is JobState.SUCCEEDED
    assert calls <= 4  # once, and once per change of state that was heard of


async def _next_list(lists):  # type: ignore[no-untyped-def]
    while (jobs := await anext(lists)) is None:
        pass
    return jobs
