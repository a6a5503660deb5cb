"""kill -9 at random moments: no accepted job is lost, and each has exactly one result."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cloudbrush.client import Client
from cloudbrush.domain.endpoint import EndpointSpec
from cloudbrush.domain.errors import EndpointNotReady, Unavailable
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.job import EventKind, Job, JobState
from cloudbrush.stores.blobs import Blobs
from tests.program import Program

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
KILLS = 20
DEADLINE = 180.0  # seconds for everything to be painted in the end
PAINTING = Txt2Img(prompt="a red circle on a blue background", width=64, height=64, steps=30)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path / "data", "--no-studio")
    program.start()
    yield program
    program.stop()


async def test_workers_killed_mid_step(program: Program) -> None:
    chance = random.Random(20)
    killed, asked = 0, 0
    async with Client(await program.url()) as client:
        await client.deploy(EndpointSpec(name="pair", min_instances=2, concurrency=1))
        await client.delete_endpoint("pocket")
        while killed < KILLS:
            await program.until_in_service(client, "pair", instances=2)
            jobs = [await client.submit(PAINTING, endpoint="pair") for _ in range(2)]
            asked += len(jobs)
            await asyncio.gather(*(_until_painting(client, job) for job in jobs))
            for worker in program.workers():
                await _pause(chance.uniform(0.0, 0.3))
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
                    killed += 1
            for job in jobs:
                await _has_one_result(client, program, job.id)
        assert len(await _all_jobs(client)) == asked


async def test_server_killed_mid_job(program: Program) -> None:
    chance = random.Random(21)
    asked = 0
    accepted: dict[str, str] = {}  # job id by idempotency key
    for _ in range(KILLS):
        submitting = asyncio.create_task(_submit_all(program, [f"request {asked + n}" for n in range(2)]))
        asked += 2
        await _pause(chance.uniform(0.5, 8.0))
        if submitting.done():
            accepted |= submitting.result()
        submitting.cancel()
        program.kill()
        program.start()
    async with Client(await program.url()) as client:
        await program.until_in_service(client)
        again = await _submit_all(program, [f"request {n}" for n in range(asked)])
        assert accepted.items() <= again.items(), "a request made twice became two jobs"
        for job_id in again.values():
            job = await _has_one_result(client, program, job_id)
            assert job.lost_attempts == (), "a killed server is not the job's fault"
        assert len(await _all_jobs(client)) == asked


async def _submit_all(program: Program, keys: list[str]) -> dict[str, str]:
    """Submit each key's request, again and again until it is answered; the job's id by key."""
    answered: dict[str, str] = {}
    async with Client(await program.url()) as client:
        while len(answered) < len(keys):
            key = keys[len(answered)]
            try:
                job = await client.submit(PAINTING, endpoint="pocket", idempotency_key=key)
                answered[key] = job.id
            except (EndpointNotReady, Unavailable):
                await _pause(0.1)
    return answered


async def _until_painting(client: Client, job: Job) -> None:
    async with asyncio.timeout(DEADLINE):
        async for event in client.events(job.id):
            if event.kind in (EventKind.PROGRESS, EventKind.FINISHED):
                return


async def _has_one_result(client: Client, program: Program, job_id: str) -> Job:
    """The job's one and only result, seen from every side: state, history, images, blob store."""
    async with asyncio.timeout(DEADLINE):
        events = [event async for event in client.events(job_id)]
    job = await client.job(job_id)
    assert job.state is JobState.SUCCEEDED, (job, program.log())
    assert [event.kind for event in events].count(EventKind.FINISHED) == 1
    (image,) = job.images
    assert hashlib.sha256(await client.image(job_id, 0)).hexdigest() == image.sha256
    async with asyncio.timeout(DEADLINE):  # leftovers of lost attempts are swept just after the end
        while Blobs((program.data_dir / "blobs").as_uri()).keys(f"jobs/{job_id}") != [image.key]:
            await _pause(0.05)
    return job


async def _all_jobs(client: Client) -> list[Job]:
    return [job async for job in _pages(client)]


async def _pages(client: Client) -> AsyncIterator[Job]:
    cursor: str | None = None
    while True:
        page = await client.jobs(limit=100, cursor=cursor)
        for job in page.jobs:
            yield job
        cursor = page.cursor
        if cursor is None:
            return


async def _pause(seconds: float) -> None:
    """The random moment of a fault, or a breath before asking another process again."""
    await asyncio.sleep(seconds)
