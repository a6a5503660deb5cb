"""Jobs in the cloud, whatever goes wrong: none is lost, none has two results, none hangs, each says why."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import boto3
import pytest

from cloudbrush.client import Client
from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobState
from cloudbrush.testing.sagemaker import Fault
from tests.providers.sagemaker.cloud import GLANCE, PATIENCE, Cloud, until
from tests.providers.sagemaker.cloud_program import CloudProgram
from tests.providers.sagemaker.following import begun

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def program(account: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudProgram]:
    """The control plane; tests that kill it start it again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = CloudProgram(account, tmp_path_factory.mktemp("data"), port)
    program.upload("pocket")
    asyncio.run(program.start())
    yield program
    program.kill()


@pytest.fixture
async def client(program: CloudProgram, cloud: Cloud) -> AsyncIterator[Client]:
    """A client of it, with the endpoint in service."""
    async with Client(program.url) as client:
        if not [found for found in await client.endpoints() if found.name == "gpu"]:
            await client.deploy(EndpointSpec(name="gpu", provider="sagemaker"))
        await until_state(client, EndpointState.IN_SERVICE)
        yield client


async def until_state(client: Client, state: EndpointState | None) -> None:
    """Return once the endpoint is so; None: once it is gone."""
    async with asyncio.timeout(PATIENCE):
        while {found.name: found.state for found in await client.endpoints()}.get("gpu") is not state:
            await asyncio.sleep(GLANCE)


async def submit(client: Client, prompt: str = "paint") -> Job:
    return await client.submit(Txt2Img(prompt=prompt, width=64, height=64), endpoint="gpu")


async def history(client: Client, job: Job) -> list[JobEvent]:
    """Everything that happened, once it is over."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in client.events(job.id)]


async def has_one_result(client: Client, cloud: Cloud, job: Job) -> Job:
    """The job with its one set of images, seen from every side."""
    events = await history(client, job)
    done = await client.job(job.id)
    assert done.state is JobState.SUCCEEDED, done
    assert [event.kind for event in events].count(EventKind.FINISHED) == 1
    (image,) = done.images
    assert await client.image(job.id, 0) == b"\x89PNG"
    await until(lambda: cloud.blobs.keys(f"jobs/{job.id}") == [image.key])
    return done


def invocations(cloud: Cloud) -> int:
    return int(cloud.controls.calls().get("InvokeEndpointAsync", 0))


async def test_a_job_in_the_cloud_from_submit_to_image_with_its_steps_seen(
    client: Client,
    cloud: Cloud,
) -> None:
    door = cloud.door()
    job = await submit(client, f"hold {door}")
    async with asyncio.timeout(PATIENCE):
        async for event in client.events(job.id):
            if event.kind is EventKind.PROGRESS:
                door.touch()
    done = await has_one_result(client, cloud, job)
    assert done.epoch == 1


async def test_a_cancel_ends_the_job_at_once_and_its_worker_at_the_next_step(
    client: Client,
    cloud: Cloud,
) -> None:
    door = cloud.door()
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    assert (await client.cancel(job.id)).state is JobState.CANCELLED
    await until(door.with_name(f"{door.name}.cancelled").exists)
    await until(lambda: cloud.blobs.keys(f"jobs/{job.id}") == [])


async def test_killed_after_the_call_and_before_its_answer_was_noted(
    client: Client,
    cloud: Cloud,
    program: CloudProgram,
) -> None:
    """The call does its work, its answer does not arrive, and the control plane dies while it tries again."""
    door, calls = cloud.door(), invocations(cloud)
    cloud.controls.refuse("ServiceUnavailable", 9, "InvokeEndpointAsync", after=True)
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    program.kill()
    cloud.controls.disarm()
    await program.start()
    await until(lambda: cloud.blobs.keys(f"temporary/{job.id}/1"))
    door.touch()
    done = await has_one_result(client, cloud, job)
    assert done.epoch == 2
    assert done.lost_attempts == ()
    assert invocations(cloud) > calls + 1


async def test_killed_while_its_job_runs_it_follows_the_same_attempt_again(
    client: Client,
    cloud: Cloud,
    program: CloudProgram,
) -> None:
    door, calls = cloud.door(), invocations(cloud)
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    program.kill()
    await program.start()
    door.touch()
    done = await has_one_result(client, cloud, job)
    assert (done.epoch, done.lost_attempts) == (1, ())
    assert invocations(cloud) == calls + 1


async def test_killed_while_its_job_finishes_it_finds_the_result(
    client: Client,
    cloud: Cloud,
    program: CloudProgram,
) -> None:
    door, calls = cloud.door(), invocations(cloud)
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    program.kill()
    outputs = len(cloud.blobs.keys("temporary/output"))
    door.touch()
    await until(lambda: len(cloud.blobs.keys("temporary/output")) > outputs)
    await program.start()
    done = await has_one_result(client, cloud, job)
    assert (done.epoch, invocations(cloud)) == (1, calls + 1)


async def test_an_instance_that_dies_under_a_job_costs_an_attempt_and_no_job(
    client: Client,
    cloud: Cloud,
) -> None:
    cloud.controls.arm(Fault.INVOCATION_FAILS)
    done = await has_one_result(client, cloud, await submit(client))
    assert done.epoch == 2
    assert "did not deliver" in done.lost_attempts[0].detail


async def test_what_the_engine_refuses_fails_with_its_words(client: Client, cloud: Cloud) -> None:
    job = await submit(client, "refuse")
    await history(client, job)
    failed = await client.job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.problem is not None
    assert (failed.problem.code, failed.problem.hint) == ("model_file", "Choose another.")


async def test_a_run_that_takes_too_long_times_out_with_its_reason(
    client: Client,
    cloud: Cloud,
) -> None:
    door = cloud.door()
    cloud.controls.arm(Fault.OUTPUT_AFTER_TIMEOUT)
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    await cloud.pass_time(901.0)  # the run limit of 15 minutes
    await history(client, job)
    over = await client.job(job.id)
    assert over.state is JobState.TIMED_OUT
    assert over.problem is not None
    assert "longer than allowed" in over.problem.detail
    door.touch()
    await until(lambda: cloud.blobs.keys(f"jobs/{job.id}") == [])


async def test_waiting_too_long_at_the_endpoint_expires_with_its_reason(
    client: Client,
    cloud: Cloud,
) -> None:
    await cloud.scaled("gpu", 0)
    job = await submit(client)
    await until(lambda: cloud.controls.metrics("brush-gpu")["HasBacklogWithoutCapacity"])
    await cloud.pass_time(6 * 3600.0)
    await history(client, job)
    over = await client.job(job.id)
    assert over.state is JobState.EXPIRED
    assert over.problem is not None
    assert "no instance took it in time" in over.problem.detail
    await cloud.scaled("gpu", 1)


async def test_an_endpoint_deleted_under_a_job_cancels_it_with_its_reason(
    client: Client,
    cloud: Cloud,
) -> None:
    door = cloud.door()
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    await client.delete_endpoint("gpu")
    await history(client, job)
    over = await client.job(job.id)
    assert over.state is JobState.CANCELLED
    assert over.problem is not None
    assert over.problem.code == "endpoint_deleted"
    await until_state(client, None)
    door.touch()


async def test_an_endpoint_deleted_by_someone_else_cancels_its_jobs_and_goes(
    client: Client,
    cloud: Cloud,
) -> None:
    door = cloud.door()
    job = await submit(client, f"hold {door}")
    await until(begun(door).exists)
    boto3.client("sagemaker").delete_endpoint(EndpointName="brush-gpu")
    await history(client, job)
    over = await client.job(job.id)
    assert over.state is JobState.CANCELLED
    assert over.problem is not None
    assert over.problem.code == "endpoint_deleted"
    await until_state(client, None)
    assert boto3.client("sagemaker").list_models(NameContains="brush-gpu")["Models"] == []
    door.touch()
