"""Real-time invocations: the worker's events through the service's response stream."""

from __future__ import annotations

import asyncio

import pytest

from cloudbrush.domain.endpoint import EndpointKind
from cloudbrush.domain.errors import RanTooLong, WorkerLost
from cloudbrush.domain.invocation import Failed, Finished, Progress
from cloudbrush.providers.sagemaker import SageMakerProvider, patience
from cloudbrush.testing.sagemaker import Fault
from tests.providers.sagemaker.cloud import Cloud, until, up
from tests.providers.sagemaker.following import Following, begun


@pytest.fixture
async def live(provider: SageMakerProvider) -> SageMakerProvider:
    """The provider with a real-time endpoint; its one worker is shared by the tests."""
    await up(provider, name="live", kind=EndpointKind.REALTIME)
    return provider


async def test_steps_images_and_end_come_as_they_happen(cloud: Cloud, live: SageMakerProvider) -> None:
    door = cloud.door()
    invocation = cloud.invocation(f"hold {door}")
    attempt = Following(live.invoke("live", invocation))
    assert await attempt.until(Progress) == Progress(step=1, steps=2)
    door.touch()
    finished = await attempt.end()
    assert isinstance(finished, Finished)
    assert [image.key for image in finished.images] == [f"jobs/{invocation.job_id}/1/0.png"]
    assert [event.kind for event in attempt.events] == ["progress", "progress", "image", "finished"]


async def test_what_the_engine_refuses_is_told_in_its_words(cloud: Cloud, live: SageMakerProvider) -> None:
    refused = Failed(code="model_file", detail="it is a LoRA", field="checkpoint", hint="Choose another.")
    assert await Following(live.invoke("live", cloud.invocation("refuse"))).end() == refused


@pytest.mark.parametrize("fault", [Fault.STREAM_BREAKS, Fault.STREAM_FAILS])
async def test_a_stream_that_breaks_is_a_lost_worker(
    cloud: Cloud, live: SageMakerProvider, fault: Fault
) -> None:
    cloud.controls.arm(fault)
    with pytest.raises(WorkerLost, match="broke off"):
        await Following(live.invoke("live", cloud.invocation())).end()


async def test_a_run_longer_than_a_stream_may_last_times_out(cloud: Cloud, live: SageMakerProvider) -> None:
    """Eight minutes: "Model Hosting FAQs" of the developer guide."""
    door = cloud.door()
    attempt = Following(live.invoke("live", cloud.invocation(f"hold {door}")))
    await attempt.until(Progress)
    await cloud.pass_time(481.0)
    with pytest.raises(RanTooLong, match="longer than a real-time endpoint allows"):
        await attempt.end()
    door.touch()


async def test_throttled_calls_are_made_again(
    cloud: Cloud, live: SageMakerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01,) * 8)
    cloud.controls.throttle(7, "InvokeEndpointWithResponseStream")
    assert isinstance(await Following(live.invoke("live", cloud.invocation())).end(), Finished)


async def test_an_attempt_that_was_stopped_ends_at_its_next_step(
    cloud: Cloud, live: SageMakerProvider
) -> None:
    door = cloud.door()
    invocation = cloud.invocation(f"hold {door}")
    attempt = Following(live.invoke("live", invocation))
    await until(begun(door).exists)
    await asyncio.gather(attempt.let_go(), live.stop(invocation.job_id, 1))
    await until(door.with_name(f"{door.name}.cancelled").exists)
