"""Real-time inference: InvokeEndpoint and InvokeEndpointWithResponseStream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from cloudbrush.testing.sagemaker import Fault
from tests.testing.sagemaker.cloud import PATIENCE, Cloud, until


def stream(cloud: Cloud, asked: dict[str, Any], **options: Any) -> Iterator[bytes]:
    """The parts of a response stream."""
    body = json.dumps(asked).encode()
    answer = cloud.runtime.invoke_endpoint_with_response_stream(EndpointName="echo", Body=body, **options)
    assert answer["ContentType"] == "application/jsonl"
    assert answer["InvokedProductionVariant"] == "main"
    for event in answer["Body"]:
        yield event["PayloadPart"]["Bytes"]


def test_an_answer_comes_back_as_it_is(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    answer = cloud.runtime.invoke_endpoint(
        EndpointName="echo", Body=b'{"a": 1}', ContentType="application/json", Accept="text/plain"
    )
    output = json.loads(answer["Body"].read())
    assert output["body"] == '{"a": 1}'
    assert (output["headers"]["Content-Type"], output["headers"]["Accept"]) == (
        "application/json",
        "text/plain",
    )
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "main")


def test_a_containers_failure_is_a_model_error(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    with pytest.raises(ClientError) as refused:
        cloud.runtime.invoke_endpoint(EndpointName="echo", Body=b'{"status": 503, "say": "too busy"}')
    answer = refused.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (503, "too busy")
    assert answer["Error"]["Message"].startswith(
        'Received server error (503) from primary with message "too busy". See https://'
    )


@pytest.mark.parametrize("operation", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
def test_a_container_has_60_seconds(cloud: Cloud, operation: str) -> None:
    cloud.deploy(real_time=True)
    door = cloud.door()
    caught: list[ClientError] = []

    def call() -> None:
        with pytest.raises(ClientError) as refused:
            getattr(cloud.runtime, operation)(
                EndpointName="echo", Body=json.dumps({"hold": str(door)}).encode()
            )
        caught.append(refused.value)

    caller = threading.Thread(target=call)
    caller.start()
    door.until_reached()
    cloud.controls.advance(59)
    assert caller.is_alive()
    cloud.controls.advance(1)
    caller.join(PATIENCE)
    door.open()
    assert not caller.is_alive()
    assert caught[0].response["Error"]["Code"] == "ModelError"
    assert "timed out while waiting for a response" in caught[0].response["Error"]["Message"]


def test_the_kinds_of_endpoints_do_not_mix(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    with pytest.raises(ClientError, match="not asynchronous") as refused:
        cloud.invoke({})
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    cloud.deploy("later")
    with pytest.raises(ClientError, match="InvokeEndpointAsync"):
        cloud.runtime.invoke_endpoint(EndpointName="later", Body=b"{}")


def test_no_healthy_instance_is_no_service(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    cloud.controls.delay(replacing=60)
    cloud.controls.kill_worker("echo")
    until(lambda: True if not cloud.describe()["ProductionVariants"][0]["CurrentInstanceCount"] else None)
    with pytest.raises(ClientError) as refused:
        cloud.runtime.invoke_endpoint(EndpointName="echo", Body=b"{}")
    assert refused.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


def test_parts_arrive_when_they_are_made(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    door = cloud.door()
    parts = stream(cloud, {"chunks": ["one\n", "two\n"], "hold": str(door)})
    assert next(parts) == b"one\n"
    door.until_reached()
    door.open()
    assert b"".join(parts) == b"two\n"


def test_a_large_part_arrives_whole(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    text = "".join(chr(97 + index % 26) for index in range(300_000))
    assert b"".join(stream(cloud, {"chunks": [text]})) == text.encode()


def test_a_container_that_breaks_off_breaks_the_stream(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    parts = stream(cloud, {"chunks": ["one\n"], "cut": True})
    assert next(parts) == b"one\n"
    with pytest.raises(EventStreamError, match="closed the connection") as broken:
        next(parts)
    assert broken.value.response["Error"]["Code"] == "ModelStreamError"


def test_a_failure_before_the_first_part_is_a_model_error(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    with pytest.raises(ClientError) as refused:
        next(stream(cloud, {"status": 400, "say": "no such model"}))
    assert refused.value.response["Error"]["Code"] == "ModelError"
    assert refused.value.response["OriginalStatusCode"] == 400


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault.STREAM_BREAKS, "ModelStreamError"), (Fault.STREAM_FAILS, "InternalStreamFailure")],
)
def test_a_stream_breaks_on_request(cloud: Cloud, fault: Fault, code: str) -> None:
    cloud.deploy(real_time=True)
    cloud.controls.arm(fault)
    parts = stream(cloud, {"chunks": ["one\n", "two\n"]})
    next(parts)
    with pytest.raises(EventStreamError) as broken:
        list(parts)
    assert broken.value.response["Error"]["Code"] == code
    assert b"".join(stream(cloud, {"chunks": ["one\n", "two\n"]})) == b"one\ntwo\n", "once only"


def test_a_stream_has_8_minutes(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    door = cloud.door()
    parts = stream(cloud, {"chunks": ["one\n", "two\n"], "hold": str(door)})
    assert next(parts) == b"one\n"
    door.until_reached()
    cloud.controls.advance(480)
    with pytest.raises(EventStreamError, match="allotted time"):
        next(parts)
    door.open()


def test_a_caller_that_hangs_up_breaks_off_the_worker_and_frees_it(cloud: Cloud) -> None:
    cloud.deploy(real_time=True, instances=2)

    def first() -> Any:
        """The first of two idle workers."""
        answer = cloud.runtime.invoke_endpoint(EndpointName="echo", Body=b"{}")
        return json.loads(answer["Body"].read())["pid"]

    door, pid = cloud.door(), first()
    asked = json.dumps({"chunks": ["line\n"] * 1000, "hold": str(door)}).encode()
    answer = cloud.runtime.invoke_endpoint_with_response_stream(EndpointName="echo", Body=asked)
    next(iter(answer["Body"]))
    door.until_reached()
    assert first() != pid, "it has something to do"
    answer["Body"].close()
    door.open()

    def broken() -> bool | None:
        said = cloud.controls.logs("echo")
        return True if "BrokenPipeError" in said or "ConnectionResetError" in said else None

    until(broken)
    until(lambda: True if first() == pid else None)
