"""From the queue to a worker and back: each job ends exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from cloudbrush.control import jobs
from cloudbrush.domain.errors import GenerationFailed, NotFound, Unavailable, WorkerLost
from cloudbrush.domain.invocation import (
    Failed,
    Finished,
    Heartbeat,
    ImagePainted,
    Invocation,
    Progress,
    WorkerEvent,
)
from cloudbrush.domain.job import EventKind, JobState
from cloudbrush.stores.base import AssetSource
from tests import builders
from tests.world import DEADLINE, World


def kinds(world: World, job_id: str) -> list[EventKind]:
    return [event.kind for event in world.plane.stores.events.after(job_id, 0)]


async def waits_for_ever(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
    yield Progress(step=1, steps=20)
    await asyncio.Event().wait()


async def test_a_job_runs_and_brings_its_image(world: World) -> None:
    job = world.submit()
    async with world.dispatching(builders.paints_one_image):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert done.images == (builders.image(job.id),)
    assert (done.epoch, done.lease_until) == (1, None)
    assert kinds(world, job.id) == [EventKind.QUEUED, EventKind.STARTED, EventKind.IMAGE, EventKind.FINISHED]


async def test_the_worker_is_told_everything_it_needs(world: World) -> None:
    job = world.submit()
    async with world.dispatching(builders.paints_one_image):
        await world.until(job.id, JobState.SUCCEEDED)
    (invocation,) = world.provider.invocations
    assert (invocation.job_id, invocation.epoch) == (job.id, 1)
    assert invocation.generation == job.generation
    assert [asset.sha256 for asset in invocation.assets] == [builders.checkpoint().sha256]
    assert invocation.output_prefix == f"jobs/{job.id}/1"


async def test_jobs_queued_before_the_start_are_run(world: World) -> None:
    ids = [world.submit().id for _ in range(5)]
    async with world.dispatching(builders.paints_one_image):
        for job_id in ids:
            await world.until(job_id, JobState.SUCCEEDED)


async def test_no_more_jobs_run_at_once_than_the_endpoint_takes(world: World) -> None:
    running, peak = 0, 0
    together = asyncio.Event()

    async def counts(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == 2:
            together.set()
        try:
            await together.wait()
            async for event in builders.paints_one_image(invocation):
                yield event
        finally:
            running -= 1

    ids = [world.submit().id for _ in range(6)]
    async with world.dispatching(counts):
        for job_id in ids:
            await world.until(job_id, JobState.SUCCEEDED)
    assert peak == 2


async def test_a_light_owner_is_not_behind_a_heavy_ones_queue(world: World) -> None:
    heavy = [world.submit(owner="ann").id for _ in range(8)]
    light = world.submit(owner="bob").id
    order: list[str] = []

    async def notes(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        order.append(invocation.job_id)
        async for event in builders.paints_one_image(invocation):
            yield event

    async with world.dispatching(notes):
        for job_id in (*heavy, light):
            await world.until(job_id, JobState.SUCCEEDED)
    assert order.index(light) <= 1


async def test_what_the_engine_refuses_fails_with_its_reason_and_is_not_tried_again(world: World) -> None:
    async def refuses(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        yield Failed(code="model_file", detail="it is a LoRA", field="checkpoint", hint="Choose another.")

    job = world.submit()
    async with world.dispatching(refuses):
        failed = await world.until(job.id, JobState.FAILED)
    assert failed.problem is not None
    assert (failed.problem.code, failed.problem.detail) == ("model_file", "it is a LoRA")
    assert len(world.provider.invocations) == 1


async def test_a_job_whose_worker_dies_runs_again(world: World) -> None:
    async def dies_once(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        if invocation.epoch == 1:
            yield ImagePainted(image=builders.image(invocation.job_id))
            raise WorkerLost("the worker's process died")
        async for event in builders.paints_one_image(invocation):
            yield event

    job = world.submit()
    async with world.dispatching(dies_once):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert [image.key for image in done.images] == [f"jobs/{job.id}/2/0.png"]
    assert [lost.detail for lost in done.lost_attempts] == ["the worker's process died"]


async def test_a_job_that_kills_three_workers_never_runs_a_fourth_time(world: World) -> None:
    async def dies(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        yield Heartbeat()
        raise WorkerLost("the worker's process died")

    job = world.submit()
    async with world.dispatching(dies):
        failed = await world.until(job.id, JobState.FAILED)
    assert len(world.provider.invocations) == 3
    assert failed.problem is not None
    assert failed.problem.code == "attempts_exhausted"
    assert failed.problem.detail.count("process died") == 3


async def test_images_of_lost_attempts_are_swept_away(world: World) -> None:
    async def leaves_an_image(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        painted = builders.image(invocation.job_id, invocation.epoch)
        world.plane.stores.blobs.put(painted.key, b"png")
        if invocation.epoch == 1:
            raise WorkerLost("the worker's process died")
        yield Finished(images=(painted,))

    job = world.submit()
    async with world.dispatching(leaves_an_image):
        await world.until(job.id, JobState.SUCCEEDED)
    assert world.plane.stores.blobs.keys("jobs") == [f"jobs/{job.id}/2/0.png"]


async def test_an_error_nobody_expected_leaves_the_dispatcher_alive(world: World) -> None:
    async def breaks(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        if invocation.generation.prompt == "break":
            raise RuntimeError("a bug")
        async for event in builders.paints_one_image(invocation):
            yield event

    world.submit("break")
    other = world.submit("paint")
    async with world.dispatching(breaks):
        await world.until(other.id, JobState.SUCCEEDED)


async def test_a_cancelled_running_job_stops_its_worker(world: World) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def notices(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        try:
            began.set()
            yield Progress(step=1, steps=20)
            await asyncio.Event().wait()
        finally:
            stopped.set()

    job = world.submit()
    async with world.dispatching(notices):
        async with asyncio.timeout(DEADLINE):
            await began.wait()
        assert jobs.cancel(world.plane, job.id, owner="ann").state is JobState.CANCELLED
        async with asyncio.timeout(DEADLINE):
            await stopped.wait()
    assert world.job(job.id).state is JobState.CANCELLED


async def test_a_cancelled_queued_job_never_starts(world: World) -> None:
    job = world.submit()
    jobs.cancel(world.plane, job.id, owner="ann")
    other = world.submit()
    async with world.dispatching(builders.paints_one_image):
        await world.until(other.id, JobState.SUCCEEDED)
    assert [invocation.job_id for invocation in world.provider.invocations] == [other.id]


async def test_a_result_that_comes_after_the_cancel_is_refused(world: World) -> None:
    async def is_cancelled_while_it_finishes(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        jobs.cancel(world.plane, invocation.job_id, owner="ann")
        async for event in builders.paints_one_image(invocation):
            yield event

    job = world.submit()
    async with world.dispatching(is_cancelled_while_it_finishes) as dispatcher:
        await world.until(job.id, JobState.CANCELLED)
        async with asyncio.timeout(DEADLINE):
            while dispatcher.busy:
                await asyncio.sleep(0)
    cancelled = world.job(job.id)
    assert (cancelled.state, cancelled.images) == (JobState.CANCELLED, ())


async def test_cancelling_twice_or_too_late_changes_nothing(world: World) -> None:
    job = world.submit()
    async with world.dispatching(builders.paints_one_image):
        done = await world.until(job.id, JobState.SUCCEEDED)
    for _ in range(2):
        assert jobs.cancel(world.plane, job.id, owner="ann") == done


async def test_a_silent_attempt_loses_its_lease_and_a_new_one_is_made(world: World) -> None:
    async def hangs_once(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        if invocation.epoch == 1:
            yield Heartbeat()
            await asyncio.Event().wait()
        async for event in builders.paints_one_image(invocation):
            yield event

    world.limit(lease=timedelta(seconds=0.05))
    job = world.submit()
    async with world.dispatching(hangs_once):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert done.epoch == 2
    assert "silent" in done.lost_attempts[0].detail


async def test_a_clock_that_jumps_takes_no_lease_of_a_worker_that_speaks(world: World) -> None:
    async def jumps(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        world.clock.pass_time(hours=1)
        world.plane.bells.ring("dispatch")
        await asyncio.sleep(0.05)
        async for event in builders.paints_one_image(invocation):
            yield event

    job = world.submit()
    async with world.dispatching(jumps):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert (done.epoch, done.lost_attempts) == (1, ())


async def test_a_job_whose_worker_died_runs_alone_next_time(world: World) -> None:
    together: list[set[str]] = []
    running: set[str] = set()

    async def poison_kills_its_worker(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        prompt = invocation.generation.prompt
        running.add(prompt)
        try:
            await asyncio.sleep(0.02)
            together.append(set(running))
            if "poison" in running:
                raise WorkerLost("the worker's process died")
            async for event in builders.paints_one_image(invocation):
                yield event
        finally:
            running.discard(prompt)

    poison = world.submit("poison", owner="ann")
    innocent = world.submit("innocent", owner="bob")
    async with world.dispatching(poison_kills_its_worker):
        await world.until(poison.id, JobState.FAILED)
        spared = await world.until(innocent.id, JobState.SUCCEEDED)
    assert len(spared.lost_attempts) <= 1
    assert {"poison", "innocent"} not in together[2:]


async def test_a_database_that_is_away_for_a_while_costs_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = world.plane.stores
    failures = {"append": 3, "change": 2, "overdue": 2}

    def hiccup(store: object, name: str) -> None:
        real = getattr(store, name)

        def sometimes(*args: object, **kwargs: object) -> object:
            if failures[name]:
                failures[name] -= 1
                raise Unavailable("the database does not answer")
            return real(*args, **kwargs)

        monkeypatch.setattr(store, name, sometimes)

    monkeypatch.setattr("cloudbrush.control.attempt.COMMIT_PAUSE", 0.0)
    job = world.submit()
    hiccup(stores.events, "append")
    hiccup(stores.jobs, "change")
    hiccup(stores.queue, "overdue")
    async with world.dispatching(builders.paints_one_image):
        for _ in range(3):
            world.plane.bells.ring("dispatch")
            await asyncio.sleep(0.01)
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert (done.epoch, done.lost_attempts) == (1, ())


async def test_a_job_of_an_endpoint_that_is_gone_is_called_off(world: World) -> None:
    job = world.submit()
    world.plane.stores.endpoints.delete("pocket")
    async with world.dispatching(builders.paints_one_image):
        over = await world.until(job.id, JobState.CANCELLED)
    assert over.problem is not None
    assert over.problem.code == "endpoint_deleted"


async def test_a_stream_asked_for_after_the_end_ends(world: World) -> None:
    job = world.submit()
    jobs.cancel(world.plane, job.id, owner="ann")
    last = world.plane.stores.events.after(job.id, 0)[-1].seq
    async with asyncio.timeout(DEADLINE):
        assert [event async for event in jobs.events(world.plane, job.id, last)] == []


async def test_a_job_that_runs_too_long_times_out(world: World) -> None:
    world.limit(run=timedelta(seconds=0.05))
    job = world.submit()
    async with world.dispatching(waits_for_ever):
        over = await world.until(job.id, JobState.TIMED_OUT)
    assert over.problem is not None
    assert over.problem.code == "timed_out"


async def test_a_job_that_waits_too_long_expires(world: World) -> None:
    job = world.submit()
    world.clock.pass_time(hours=7)
    async with world.dispatching(builders.paints_one_image):
        over = await world.until(job.id, JobState.EXPIRED)
    assert over.problem is not None
    assert world.provider.invocations == []


async def test_a_stop_gives_running_jobs_back_without_counting_the_attempt(world: World) -> None:
    job = world.submit()
    async with world.dispatching(waits_for_ever):
        await world.until(job.id, JobState.RUNNING)
    given_back = world.job(job.id)
    assert (given_back.state, given_back.lost_attempts) == (JobState.QUEUED, ())


async def test_a_new_control_plane_takes_up_what_the_old_one_left_running(world: World) -> None:
    job = world.submit()
    now = world.clock()
    world.plane.stores.queue.claim("pocket", now, now + timedelta(seconds=30), lambda heads: heads[0])
    assert world.job(job.id).state is JobState.RUNNING
    async with world.dispatching(builders.paints_one_image):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert (done.epoch, done.lost_attempts) == (2, ())


async def test_a_warm_checkpoint_is_preferred_until_patience_ends(world: World) -> None:
    world.plane.stores.assets.put(AssetSource(builders.checkpoint("other"), Path("o"), modified=1))
    order: list[str] = []

    async def one_at_a_time(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        order.append(invocation.generation.checkpoint or "")
        async for event in builders.paints_one_image(invocation):
            yield event

    endpoint = world.plane.stores.endpoints.get("pocket")
    narrow = endpoint.model_copy(update={"spec": endpoint.spec.model_copy(update={"concurrency": 1})})
    world.plane.stores.endpoints.change(narrow)
    ids = [
        world.submit(owner=owner, checkpoint=name).id
        for owner, name in (("ann", "pocket"), ("bob", "other"), ("cat", "pocket"))
    ]
    async with world.dispatching(one_at_a_time):
        for job_id in ids:
            await world.until(job_id, JobState.SUCCEEDED)
    assert order == ["pocket", "pocket", "other"]


async def test_events_are_streamed_to_the_end(world: World) -> None:
    job = world.submit()
    seen: list[EventKind] = []

    async def follow() -> None:
        async for event in jobs.events(world.plane, job.id, 0):
            if event:
                seen.append(event.kind)

    following = asyncio.create_task(follow())
    async with world.dispatching(builders.paints_one_image), asyncio.timeout(DEADLINE):
        await following
    assert seen[0] is EventKind.QUEUED
    assert seen[-1] is EventKind.FINISHED
    assert seen == sorted(seen, key=list(EventKind).index)


async def test_anothers_job_is_as_if_it_were_not_there(world: World) -> None:
    job = world.submit(owner="ann")
    for look in (jobs.get, jobs.cancel, jobs.delete):
        with pytest.raises(NotFound):
            look(world.plane, job.id, owner="bob")


async def test_generation_failed_is_not_retried(world: World) -> None:
    async def refuses(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        yield Heartbeat()
        raise GenerationFailed("the worker refused the invocation (400)")

    job = world.submit()
    async with world.dispatching(refuses):
        await world.until(job.id, JobState.FAILED)
    assert len(world.provider.invocations) == 1
