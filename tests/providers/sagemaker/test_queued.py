"""Asynchronous invocations, from the call to the end of the job, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio

import pytest

from cloudbrush.domain.errors import RanTooLong, WaitedTooLong, WorkerLost
from cloudbrush.domain.invocation import (
    Accepted,
    Failed,
    Finished,
    ImagePainted,
    Invocation,
    Progress,
)
from cloudbrush.providers.sagemaker import SageMakerProvider, notices, patience
from cloudbrush.testing.sagemaker import Fault
from tests import faulty
from tests.providers.sagemaker.cloud import TICK, Cloud, until, up
from tests.providers.sagemaker.following import Following, begun

LOOK = 61.0  # seconds after which a result that was not announced is looked for


@pytest.fixture
async def gpu(provider: SageMakerProvider) -> SageMakerProvider:
    """The provider with an asynchronous endpoint; its one worker is shared by the tests."""
    await up(provider, name="gpu", concurrency=4)
    return provider


def follow(provider: SageMakerProvider, invocation: Invocation) -> Following:
    return Following(provider.invoke("gpu", invocation))


async def test_an_attempt_is_accepted_and_brings_its_image(cloud: Cloud, gpu: SageMakerProvider) -> None:
    invocation = cloud.invocation()
    attempt = follow(gpu, invocation)
    await attempt.end()
    accepted, painted, finished = attempt.events
    assert isinstance(accepted, Accepted)
    assert isinstance(painted, ImagePainted)
    assert isinstance(finished, Finished)
    assert finished.images == (painted.image,)
    assert painted.image.key == f"jobs/{invocation.job_id}/1/0.png"
    assert cloud.blobs.get(painted.image.key) == b"\x89PNG"


async def test_a_job_that_nobody_watches_costs_one_call_and_one_look(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    door, before = cloud.door(), cloud.controls.calls()
    invocation = cloud.invocation(f"hold {door}")
    cloud.proxy.asked.clear()
    attempt = follow(gpu, invocation)
    await until(begun(door).exists)
    await asyncio.sleep(10 * TICK)  # in each of which it could look
    after = cloud.controls.calls()
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)} == {
        "InvokeEndpointAsync": 1
    }
    mine = f"temporary/{invocation.job_id}/1"
    assert looked_for(cloud) == []
    assert [key for key in cloud.objects("PUT") if key != f"{mine}/report.json"] == []  # the worker's
    door.touch()
    assert isinstance(await attempt.end(), Finished)
    assert [key.partition("/")[2].partition("/")[0] for key in looked_for(cloud)] == ["output"]


def looked_for(cloud: Cloud) -> list[str]:
    """What was read from the bucket by others than the worker."""
    by_worker = ("models/", "/stop")
    return [
        key
        for key in cloud.objects("GET")
        if not (key.startswith(by_worker[0]) or key.endswith(by_worker[1]))
    ]


async def test_a_request_too_large_for_the_call_goes_by_s3_in_two_calls(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    long = cloud.invocation().model_copy(update={"assets": (cloud.asset(),) * 600})
    cloud.proxy.asked.clear()
    calls = cloud.controls.calls()["InvokeEndpointAsync"]
    attempt = follow(gpu, long)
    await attempt.until(Accepted)
    assert cloud.controls.calls()["InvokeEndpointAsync"] == calls + 1
    assert cloud.objects("PUT").count(f"temporary/{long.job_id}/1/input.json") == 1
    assert isinstance(await attempt.end(), Finished)


async def test_steps_are_told_only_while_someone_watches(cloud: Cloud, gpu: SageMakerProvider) -> None:
    door = cloud.door()
    invocation = cloud.invocation(f"hold {door}")
    attempt = follow(gpu, invocation)
    await until(begun(door).exists)
    cloud.watched = {invocation.job_id}
    assert await attempt.until(Progress) == Progress(step=1, steps=2)
    cloud.watched = frozenset()
    cloud.proxy.asked.clear()
    await cloud.pass_time(30.0)
    await asyncio.sleep(10 * TICK)
    assert looked_for(cloud) == []
    door.touch()
    assert isinstance(await attempt.end(), Finished)


async def test_several_attempts_run_at_once_on_one_instance(cloud: Cloud, gpu: SageMakerProvider) -> None:
    doors = [cloud.door() for _ in range(4)]
    attempts = [follow(gpu, cloud.invocation(f"hold {door}")) for door in doors]
    for door in doors:
        await until(begun(door).exists)
    for door in doors:
        door.touch()
    assert [type(await attempt.end()) for attempt in attempts] == [Finished] * 4


async def test_what_the_engine_refuses_is_told_in_its_words(cloud: Cloud, gpu: SageMakerProvider) -> None:
    refused = Failed(code="model_file", detail="it is a LoRA", field="checkpoint", hint="Choose another.")
    assert await follow(gpu, cloud.invocation("refuse")).end() == refused


async def test_what_no_worker_explains_is_a_lost_worker(cloud: Cloud, gpu: SageMakerProvider) -> None:
    cloud.controls.arm(Fault.INVOCATION_FAILS)
    with pytest.raises(WorkerLost, match="did not deliver"):
        await follow(gpu, cloud.invocation()).end()


async def test_an_attempt_that_was_stopped_ends_at_its_next_step(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    door = cloud.door()
    invocation = cloud.invocation(f"hold {door}")
    attempt = follow(gpu, invocation)
    await until(begun(door).exists)
    await gpu.stop(invocation.job_id, 1)
    await until(door.with_name(f"{door.name}.cancelled").exists)
    ended = await attempt.end()
    assert isinstance(ended, Failed)
    assert ended.code == "cancelled"


async def test_an_attempt_that_was_stopped_in_the_queue_never_begins(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    door, behind = cloud.door(), cloud.door()
    first = [follow(gpu, cloud.invocation(f"hold {door}")) for _ in range(4)]  # as many as may run
    await until(begun(door).exists)
    waiting = cloud.invocation(f"hold {behind}")
    attempt = follow(gpu, waiting)
    await attempt.until(Accepted)
    await gpu.stop(waiting.job_id, 1)
    door.touch()
    ended = await attempt.end()
    assert isinstance(ended, Failed)
    assert ended.code == "cancelled"
    assert not begun(behind).exists()
    for other in first:
        await other.end()


async def test_an_attempt_is_followed_again_by_its_handle(cloud: Cloud, gpu: SageMakerProvider) -> None:
    door = cloud.door()
    invocation = cloud.invocation(f"hold {door}")
    attempt = follow(gpu, invocation)
    handle = (await attempt.until(Accepted)).handle
    await until(begun(door).exists)
    await attempt.let_go()
    calls = cloud.controls.calls()["InvokeEndpointAsync"]
    again = Following(gpu.resume(handle))
    door.touch()
    ended = await again.end()
    assert isinstance(ended, Finished)
    assert [image.key for image in ended.images] == [f"jobs/{invocation.job_id}/1/0.png"]
    assert cloud.controls.calls()["InvokeEndpointAsync"] == calls


async def test_a_result_that_came_while_nobody_listened_is_found_at_once(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    attempt = follow(gpu, cloud.invocation())
    handle = (await attempt.until(Accepted)).handle
    await attempt.end()
    other = cloud.provider()  # which never hears a notice: it does not listen
    assert isinstance(await Following(other.resume(handle)).end(), Finished)
    await other.close()


@pytest.mark.parametrize("handle", ["", "{}", "not json"])
async def test_a_handle_that_is_none_is_a_lost_attempt(gpu: SageMakerProvider, handle: str) -> None:
    with pytest.raises(WorkerLost, match="found again"):
        await Following(gpu.resume(handle)).end()


async def test_throttled_calls_are_made_again(
    cloud: Cloud, gpu: SageMakerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01,) * 8)
    cloud.controls.throttle(7, "InvokeEndpointAsync")  # more than botocore tries by itself
    assert isinstance(await follow(gpu, cloud.invocation()).end(), Finished)
    assert cloud.controls.met()["ThrottlingException"] == 7


async def test_a_call_that_did_its_work_and_failed_is_one_job(
    cloud: Cloud, gpu: SageMakerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The invocation is made twice under one name: the same images, one end."""
    monkeypatch.setattr(patience, "PAUSES", (0.01,) * 8)
    cloud.controls.refuse("ServiceUnavailable", 1, "InvokeEndpointAsync", after=True)
    invocation = cloud.invocation()
    attempt = follow(gpu, invocation)
    assert isinstance(await attempt.end(), Finished)
    assert [event.kind for event in attempt.events] == ["accepted", "image", "finished"]
    await until(lambda: cloud.waiting_messages() == 0)


async def test_a_success_that_is_not_announced_is_found(cloud: Cloud, gpu: SageMakerProvider) -> None:
    cloud.controls.arm(Fault.MESSAGE_LOST)
    attempt = follow(gpu, cloud.invocation())
    await attempt.until(Accepted)
    await until(lambda: cloud.controls.met().get("message_lost"))
    await cloud.pass_time(LOOK)
    assert isinstance(await attempt.end(), Finished)


async def test_a_failure_that_is_not_announced_is_found(cloud: Cloud, gpu: SageMakerProvider) -> None:
    cloud.controls.arm(Fault.MESSAGE_LOST)
    attempt = follow(gpu, cloud.invocation("refuse"))
    await attempt.until(Accepted)
    await until(lambda: cloud.controls.met().get("message_lost"))
    await cloud.pass_time(LOOK)
    ended = await attempt.end()
    assert isinstance(ended, Failed)
    assert ended.code == "model_file"


async def test_a_result_that_is_announced_twice_ends_once(cloud: Cloud, gpu: SageMakerProvider) -> None:
    cloud.controls.arm(Fault.MESSAGE_TWICE)
    invocation = cloud.invocation()
    attempt = follow(gpu, invocation)
    assert isinstance(await attempt.end(), Finished)
    assert [event.kind for event in attempt.events].count("finished") == 1


async def test_a_result_that_is_written_after_it_was_announced_is_waited_for(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    cloud.controls.arm(Fault.OBJECT_LATE, seconds=5.0)
    attempt = follow(gpu, cloud.invocation())
    await until(lambda: cloud.controls.met().get("object_late"))
    await asyncio.sleep(10 * TICK)
    await cloud.pass_time(5.0)
    assert isinstance(await attempt.end(), Finished)


async def test_a_result_that_was_announced_and_is_nowhere_is_a_lost_worker(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    cloud.controls.arm(Fault.OBJECT_LOST)
    attempt = follow(gpu, cloud.invocation())
    await until(lambda: cloud.controls.met().get("object_lost"))

    async def time_passes() -> None:
        while True:
            await asyncio.sleep(4 * TICK)
            cloud.moved += 16.0

    passing = asyncio.create_task(time_passes())
    with pytest.raises(WorkerLost, match="is not there"):
        await attempt.end()
    passing.cancel()


async def test_a_run_that_takes_too_long_times_out_and_its_late_output_changes_nothing(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    door = cloud.door()
    cloud.controls.arm(Fault.OUTPUT_AFTER_TIMEOUT)
    attempt = follow(gpu, cloud.invocation(f"hold {door}", run_limit=30))
    await until(begun(door).exists)
    await cloud.pass_time(31.0)
    with pytest.raises(RanTooLong, match="longer than allowed") as over:
        await attempt.end()
    assert over.value.hint
    door.touch()


async def test_waiting_too_long_in_the_queue_expires(cloud: Cloud, gpu: SageMakerProvider) -> None:
    door = cloud.door()
    first = [follow(gpu, cloud.invocation(f"hold {door}")) for _ in range(4)]
    await until(begun(door).exists)
    for other in first:
        await other.until(Accepted)
    attempt = follow(gpu, cloud.invocation(wait_limit=90))
    await attempt.until(Accepted)
    await cloud.pass_time(91.0)
    with pytest.raises(WaitedTooLong, match="no instance took it"):
        await attempt.end()
    door.touch()
    for other in first:
        await other.end()


async def test_s3_that_answers_with_errors_is_asked_again(
    cloud: Cloud, gpu: SageMakerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0

    def twelve_times(asked: faulty.Asked) -> faulty.Fault:
        nonlocal refused
        if asked.method != "GET" or "/temporary/output/" not in asked.path or refused >= 12:
            return None
        refused += 1
        return faulty.Refuse(503, "SlowDown") if refused % 2 else faulty.Cut()

    cloud.proxy.fault = twelve_times
    attempt = follow(gpu, cloud.invocation())
    await until(lambda: refused)
    passing = asyncio.create_task(_time_passes(cloud))
    assert isinstance(await attempt.end(), Finished)
    passing.cancel()
    assert refused == 12


async def _time_passes(cloud: Cloud) -> None:
    while True:
        await asyncio.sleep(4 * TICK)
        cloud.moved += 16.0


async def test_notices_that_nobody_expects_are_settled_or_left(cloud: Cloud, gpu: SageMakerProvider) -> None:
    cloud.over = False
    invocation = cloud.invocation()
    attempt = follow(gpu, invocation)
    await attempt.until(Accepted)
    await attempt.let_go()
    await until(lambda: cloud.strays.count((invocation.job_id, 1)) >= 2)  # left, and so delivered again
    cloud.over = True
    await until(lambda: cloud.waiting_messages() == 0)


def test_a_message_that_is_no_notice_is_seen_as_none() -> None:
    for body in ("", "[]", "{}", '{"Message": "{}"}', '{"Message": 3}', "null"):
        assert notices.read(body) is None


async def test_an_attempt_at_no_instance_waits_for_one_however_long_that_takes(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    await cloud.scaled("gpu", 0)
    await until(lambda: cloud.controls.metrics("brush-gpu")["HasBacklogWithoutCapacity"] == 0)
    cloud.controls.delay(scaling_out=480.0)
    attempt = follow(gpu, cloud.invocation())
    await attempt.until(Accepted)
    await until(lambda: cloud.controls.metrics("brush-gpu")["HasBacklogWithoutCapacity"] == 1)
    cloud.controls.set_instances("brush-gpu", 1)  # as the alarm of its policy does
    for _ in range(8):
        await cloud.pass_time(60.0)
        await asyncio.sleep(2 * TICK)
    assert isinstance(await attempt.end(), Finished)
    cloud.controls.delay(scaling_out=0.0)


async def test_an_endpoint_deleted_under_an_attempt_is_a_lost_worker(
    cloud: Cloud, gpu: SageMakerProvider
) -> None:
    door = cloud.door()
    attempt = follow(gpu, cloud.invocation(f"hold {door}"))
    await until(begun(door).exists)
    await gpu.delete("gpu")
    await cloud.pass_time(LOOK)
    with pytest.raises(WorkerLost, match="endpoint was deleted"):
        await attempt.end()
    door.touch()
