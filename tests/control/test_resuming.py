"""A control plane that stops or dies, and attempts that go on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from cloudbrush.control import jobs
from cloudbrush.domain.endpoint import EndpointSpec
from cloudbrush.domain.errors import RanTooLong, Unavailable, WaitedTooLong, WorkerLost
from cloudbrush.domain.invocation import Finished, ImagePainted, Invocation, Progress, WorkerEvent
from cloudbrush.domain.job import EventKind, JobState
from cloudbrush.providers.fake import LastingFakeProvider
from cloudbrush.stores.base import AssetSource
from tests import builders
from tests.world import DEADLINE, World


@pytest.fixture
def world(world: World) -> World:
    """The same world, whose provider keeps attempts."""
    provider = LastingFakeProvider()
    provider._endpoints = world.provider._endpoints
    world.plane.providers["fake"] = provider  # type: ignore[index]
    world.provider = provider
    return world


class Painter:
    """A script that paints its image when told to."""

    def __init__(self) -> None:
        self.may_finish = asyncio.Event()

    async def __call__(self, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        painted = builders.image(invocation.job_id, invocation.epoch)
        yield Progress(step=1, steps=2)
        yield ImagePainted(image=painted)
        await self.may_finish.wait()
        yield Finished(images=(painted,))


def stopped(world: World) -> list[tuple[str, int]]:
    assert isinstance(world.provider, LastingFakeProvider)
    return world.provider.stopped


async def until_accepted(world: World, job_id: str) -> None:
    async with asyncio.timeout(DEADLINE):
        with world.plane.bells.listening(job_id) as bell:
            while EventKind.IMAGE not in kinds(world, job_id):
                await bell.wait(0.05)


def kinds(world: World, job_id: str) -> list[EventKind]:
    return [event.kind for event in world.plane.stores.events.after(job_id, 0)]


async def test_a_restarted_control_plane_follows_the_same_attempt_again(world: World) -> None:
    painter, job = Painter(), world.submit()
    async with world.dispatching(painter):
        await until_accepted(world, job.id)
    assert world.job(job.id).state is JobState.RUNNING
    assert stopped(world) == []
    async with world.dispatching(painter):
        painter.may_finish.set()
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert (done.epoch, done.lost_attempts, done.images) == (1, (), (builders.image(job.id),))
    assert len(world.provider.invocations) == 1
    assert kinds(world, job.id).count(EventKind.IMAGE) == 1
    assert kinds(world, job.id).count(EventKind.FINISHED) == 1


async def test_what_finished_while_nobody_listened_is_not_lost(world: World) -> None:
    painter, job = Painter(), world.submit()
    async with world.dispatching(painter):
        await until_accepted(world, job.id)
    painter.may_finish.set()
    world.clock.pass_time(minutes=10)  # longer than any lease
    async with world.dispatching(painter):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert (done.epoch, done.lost_attempts) == (1, ())


async def test_killed_before_the_handle_was_noted_the_attempt_is_stopped_and_made_again(world: World) -> None:
    job, now = world.submit(), world.clock()
    world.plane.stores.queue.claim("pocket", now, now + timedelta(seconds=30), lambda heads: heads[0])
    async with world.dispatching(builders.paints_one_image):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert stopped(world) == [(job.id, 1)]
    assert (done.epoch, done.lost_attempts) == (2, ())
    assert [image.key for image in done.images] == [f"jobs/{job.id}/2/0.png"]


async def test_an_attempt_that_is_gone_after_the_restart_counts_as_lost(world: World) -> None:
    job, now = world.submit(), world.clock()
    world.plane.stores.queue.claim("pocket", now, now + timedelta(seconds=30), lambda heads: heads[0])
    world.plane.stores.queue.accept(job.id, 1, "forgotten by its provider")
    async with world.dispatching(builders.paints_one_image):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert done.epoch == 2
    assert [lost.detail for lost in done.lost_attempts] == ["the attempt is gone"]


async def test_a_cancelled_attempt_is_stopped_where_it_runs(world: World) -> None:
    job = world.submit()
    async with world.dispatching(Painter()) as dispatcher:
        await until_accepted(world, job.id)
        jobs.cancel(world.plane, job.id, owner="ann")
        async with asyncio.timeout(DEADLINE):
            while dispatcher.busy:
                await asyncio.sleep(0)
    assert stopped(world) == [(job.id, 1)]


async def test_a_handle_that_could_not_be_noted_costs_a_restart_but_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object) -> bool:
        raise Unavailable("the database does not answer")

    painter, job = Painter(), world.submit()
    with monkeypatch.context() as patch:
        patch.setattr(world.plane.stores.queue, "accept", away)
        async with world.dispatching(painter):
            await until_accepted(world, job.id)
    assert world.job(job.id).state is JobState.QUEUED
    assert stopped(world) == [(job.id, 1)]
    painter.may_finish.set()
    async with world.dispatching(painter):
        done = await world.until(job.id, JobState.SUCCEEDED)
    assert (done.epoch, done.lost_attempts) == (2, ())


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (WaitedTooLong("no instance became free in time"), JobState.EXPIRED),
        (RanTooLong("it ran too long"), JobState.TIMED_OUT),
    ],
)
async def test_time_the_provider_keeps_ends_the_job_with_its_reason(
    world: World, error: Exception, state: JobState
) -> None:
    async def keeps_time(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        yield Progress(step=1, steps=2)
        raise error

    job = world.submit()
    async with world.dispatching(keeps_time):
        over = await world.until(job.id, state)
    assert over.problem is not None
    assert (over.problem.code, over.problem.detail) == (state.value, str(error))
    assert over.lost_attempts == ()


async def test_a_lost_worker_is_told_to_stop_before_the_next_attempt(world: World) -> None:
    async def dies_once(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        if invocation.epoch == 1:
            yield Progress(step=1, steps=2)
            raise WorkerLost("the instance went away")
        async for event in builders.paints_one_image(invocation):
            yield event

    job = world.submit()
    async with world.dispatching(dies_once):
        await world.until(job.id, JobState.SUCCEEDED)
    assert stopped(world) == [(job.id, 1)]


async def test_an_async_endpoint_is_given_what_its_largest_fleet_can_run(world: World) -> None:
    world.plane.providers["sagemaker"] = world.provider  # type: ignore[index]
    rented = EndpointSpec(
        name="pocket", provider="sagemaker", min_instances=0, max_instances=3, concurrency=2
    )
    endpoint = world.plane.stores.endpoints.get("pocket")
    world.plane.stores.endpoints.change(endpoint.model_copy(update={"instances": 0, "spec": rented}))
    there = builders.checkpoint().model_copy(update={"in_cloud": True})
    world.plane.stores.assets.put(AssetSource(there, Path("pocket.safetensors"), modified=2))
    painter = Painter()
    ids = [world.submit().id for _ in range(8)]
    async with world.dispatching(painter):
        for job_id in ids[:6]:
            await until_accepted(world, job_id)
        waiting = [world.job(job_id).state for job_id in ids[6:]]
        assert waiting == [JobState.QUEUED, JobState.QUEUED]
        painter.may_finish.set()
        for job_id in ids:
            await world.until(job_id, JobState.SUCCEEDED)
    assert {invocation.wait_limit for invocation in world.provider.invocations} == {6 * 3600}
    assert {invocation.run_limit for invocation in world.provider.invocations} == {15 * 60}


async def test_what_nobody_follows_is_settled_once_it_does_not_count(world: World) -> None:
    """An attempt that SageMaker tells of, and nobody waits for."""
    blobs, job, now = world.plane.stores.blobs, world.submit(), world.clock()
    lease = now + timedelta(seconds=30)
    world.plane.stores.queue.claim("pocket", now, lease, lambda heads: heads[0])
    assert not jobs.settle(world.plane, builders.new_id(), 1)  # perhaps another control plane's
    assert not jobs.settle(world.plane, job.id, 1)  # it may be followed again
    for epoch in (1, 2):
        blobs.put(f"jobs/{job.id}/{epoch}/0.png", b"png")
    world.plane.stores.jobs.change(world.job(job.id).released(), at=now)
    again = world.plane.stores.queue.claim("pocket", now, lease, lambda heads: heads[0])
    assert again is not None
    assert jobs.settle(world.plane, job.id, 1)  # another attempt runs
    assert blobs.keys("jobs") == [f"jobs/{job.id}/2/0.png"]
    done = again.succeeded(now, (builders.image(job.id, epoch=2),))
    world.plane.stores.jobs.change(done, at=now)
    blobs.put(f"jobs/{job.id}/1/0.png", b"late")
    assert jobs.settle(world.plane, job.id, 2)  # over, and told twice
    assert blobs.keys("jobs") == [f"jobs/{job.id}/2/0.png"]
