"""The parts that can be looked at alone: time, frames, the service model's limits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from botocore.eventstream import EventStreamBuffer

from cloudbrush.testing.sagemaker import VirtualClock, eventstream, shapes
from cloudbrush.testing.sagemaker.clock import within
from cloudbrush.testing.sagemaker.errors import Invalid

START = datetime(2026, 1, 1, tzinfo=UTC)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock, woken = VirtualClock(START), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, (clock.now() - START).total_seconds()))

    tasks = [asyncio.create_task(sleeper(*who)) for who in (("a", 30, 30), ("b", 45), ("c", 90))]
    await asyncio.sleep(0)
    await clock.advance(60)
    assert woken == [("a", 30), ("b", 45), ("a", 60)]
    assert clock.now() == START + timedelta(seconds=60)
    await clock.advance(30)
    assert woken[3:] == [("c", 90)]
    await asyncio.gather(*tasks)


async def test_no_time_needs_no_advance() -> None:
    await VirtualClock().sleep(0)


async def test_work_is_cancelled_when_its_time_is_up() -> None:
    clock, cancelled = VirtualClock(START), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    waiting = asyncio.create_task(within(clock, 10, work()))
    await asyncio.sleep(0)
    await clock.advance(9)
    assert not waiting.done()
    await clock.advance(1)
    with pytest.raises(TimeoutError):
        await waiting
    assert cancelled.is_set()


async def test_work_in_time_gives_its_answer_or_its_error() -> None:
    clock = VirtualClock(START)
    assert await within(clock, 1, asyncio.sleep(0, "done")) == "done"

    async def broken() -> None:
        raise KeyError("key")

    with pytest.raises(KeyError):
        await within(clock, 1, broken())


# The first two vectors that AWS publishes with its event stream encoders.
EMPTY = bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")
PAYLOAD = bytes.fromhex("0000001d 00000000 fd528c5a 7b27666f6f273a27626172277d c3653936")


@pytest.mark.parametrize(("payload", "vector"), [(b"", EMPTY), (b"{'foo':'bar'}", PAYLOAD)])
def test_frames_are_the_published_ones(payload: bytes, vector: bytes) -> None:
    assert eventstream.frame({}, payload) == vector


def test_botocore_reads_the_frames() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(
        eventstream.part(b"some bytes") + eventstream.failure("ModelStreamError", "why", ErrorCode="x")
    )
    part, failure = buffer
    assert (part.headers[":event-type"], part.payload) == ("PayloadPart", b"some bytes")
    assert failure.to_response_dict()["status_code"] == 400
    assert failure.payload == b'{"Message": "why", "ErrorCode": "x"}'


def test_wrong_values_are_named_as_the_service_names_them() -> None:
    shape = shapes.operation("sagemaker", "UpdateEndpoint").input_shape
    with pytest.raises(Invalid) as refused:
        shapes.check(shape, {"EndpointName": "a_b"})
    assert refused.value.message == (
        "2 validation errors detected: Value at 'endpointConfigName' failed to satisfy constraint: "
        "Member must not be null; Value 'a_b' at 'endpointName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )


@pytest.mark.parametrize(("key", "allowed"), [("größe 1", True), ("a.b:/c=d+e-f@g", True), ("a*b", False)])
def test_patterns_of_java_mean_the_same_here(key: str, allowed: bool) -> None:
    shape = shapes.operation("sagemaker", "AddTags").input_shape
    asked = {
        "ResourceArn": "arn:aws:sagemaker:eu-central-1:123456789012:model/m",
        "Tags": [{"Key": key, "Value": ""}],
    }
    if allowed:
        shapes.check(shape, asked)
    else:
        with pytest.raises(Invalid, match=r"tags\.1\.member\.key"):
            shapes.check(shape, asked)
