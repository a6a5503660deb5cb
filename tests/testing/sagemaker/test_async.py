"""Asynchronous inference: from InvokeEndpointAsync to object and message."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from cloudbrush.testing.sagemaker import SageMaker
from tests.testing.sagemaker.cloud import Cloud


def test_an_invocation_ends_with_an_object_and_a_message(cloud: Cloud) -> None:
    cloud.deploy(environment={"ECHO_GREETING": "hello"})
    answer = cloud.invoke(
        {"prompt": "a red circle"},
        InferenceId="job-1",
        ContentType="application/json",
        Accept="application/json",
        CustomAttributes="trace=7",
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "job-1"
    assert answer["OutputLocation"].startswith("s3://works/out/")
    assert answer["FailureLocation"].startswith("s3://works/bad/")

    output = json.loads(cloud.until_object(answer["OutputLocation"]))
    assert output["body"] == '{"prompt": "a red circle"}'
    assert output["greeting"] == "hello"
    sent = output["headers"]
    assert sent["Content-Type"] == sent["Accept"] == "application/json"
    assert sent["X-Amzn-SageMaker-Custom-Attributes"] == "trace=7"
    assert sent["X-Amzn-SageMaker-Inference-Id"] == "job-1"

    # Members and values of the example in "Check prediction results".
    assert cloud.message() == {
        "topic": "success",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "receivedTime": "2026-01-01T00:00:00.000Z",
        "invocationStatus": "Completed",
        "requestParameters": {
            "accept": "application/json",
            "contentType": "application/json",
            "customAttributes": "trace=7",
            "endpointName": "echo",
        },
        "responseParameters": {
            "contentType": "application/json",
            "outputLocation": answer["OutputLocation"],
        },
        "inferenceId": "job-1",
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    assert cloud.object(answer["FailureLocation"]) is None


def test_the_request_may_lie_in_s3(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.s3.put_object(Bucket="works", Key="in/1.json", Body=b'{"say": "from S3"}')
    answer = cloud.runtime.invoke_endpoint_async(EndpointName="echo", InputLocation="s3://works/in/1.json")
    assert cloud.until_object(answer["OutputLocation"]) == b"from S3"
    assert cloud.message()["requestParameters"]["inputLocation"] == "s3://works/in/1.json"


def test_a_request_that_is_not_in_s3_fails(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.runtime.invoke_endpoint_async(EndpointName="echo", InputLocation="s3://works/in/none.json")
    message = cloud.message()
    assert (message["topic"], message["invocationStatus"]) == ("error", "Failed")
    assert "s3://works/in/none.json" in message["failureReason"]
    cloud.until_metrics(RequestDownloadFailures=1, InvocationFailures=1)


@pytest.mark.parametrize(("status", "whose"), [(500, "server"), (400, "client")])
def test_a_failure_of_the_container_is_kept_and_told(cloud: Cloud, status: int, whose: str) -> None:
    cloud.deploy()
    answer = cloud.invoke({"status": status, "say": '{"code": "broke"}'}, InferenceId="job-2")
    assert cloud.until_object(answer["FailureLocation"]) == b'{"code": "broke"}'
    message = cloud.message()
    assert (message["topic"], message["invocationStatus"]) == ("error", "Failed")
    # The words of the example in "Check prediction results".
    assert message["failureReason"] == (
        f"ClientError: Received {whose} error ({status}) from model. "
        "See the SageMaker Endpoint logs in your account for more information."
    )
    assert message["inferenceId"] == "job-2"
    assert "responseParameters" not in message
    assert cloud.object(answer["OutputLocation"]) is None


def test_without_a_failure_path_there_is_no_failure_object(cloud: Cloud) -> None:
    cloud.deploy(output={"S3OutputPath": "s3://works/out"})
    answer = cloud.invoke({"status": 500})
    assert "FailureLocation" not in answer
    cloud.until_metrics(InvocationFailures=1)
    assert "Contents" not in cloud.s3.list_objects_v2(Bucket="works")


def test_the_output_can_be_named(cloud: Cloud) -> None:
    cloud.deploy()
    answer = cloud.invoke({}, S3OutputPathExtension="jobs/7", Filename="result.json")
    assert answer["OutputLocation"] == "s3://works/out/jobs/7/result.json"
    assert cloud.until_object("s3://works/out/jobs/7/result.json")


def test_the_response_travels_in_the_message_if_asked_for_and_small(cloud: Cloud) -> None:
    included = {"IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"]}
    topics = cloud.output_config()["NotificationConfig"]
    cloud.deploy(output=cloud.output_config(NotificationConfig=topics | included))
    cloud.invoke({"say": "small"})
    assert base64.b64decode(cloud.message()["responseBody"]["content"]) == b"small"
    large = json.dumps({"say": "x" * (128 * 1024 + 1)}).encode()
    cloud.s3.put_object(Bucket="works", Key="in", Body=large)
    cloud.runtime.invoke_endpoint_async(EndpointName="echo", InputLocation="s3://works/in")
    assert "responseBody" not in cloud.message()


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"Body": b"x" * 128_001}, "less than or equal to 128000"),
        ({"Body": b"{}", "InvocationTimeoutSeconds": 3601}, "less than or equal to 3600"),
        ({"Body": b"{}", "RequestTTLSeconds": 21601}, "less than or equal to 21600"),
        ({"Body": b"{}", "InferenceId": "x" * 65}, "less than or equal to 64"),
        ({"Body": b"{}", "Filename": "a/b"}, "regular expression"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_service_model_does_not_allow_is_refused(
    cloud: Cloud, asked: dict[str, Any], word: str
) -> None:
    with pytest.raises(ClientError, match=word) as refused:
        cloud.runtime.invoke_endpoint_async(EndpointName="echo", **asked)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_the_request_is_either_inline_or_in_s3(cloud: Cloud) -> None:
    cloud.deploy()
    for asked in ({}, {"Body": b"{}", "InputLocation": "s3://works/in"}):
        with pytest.raises(ClientError, match="exactly one"):
            cloud.runtime.invoke_endpoint_async(EndpointName="echo", **asked)
    with pytest.raises(ClientError, match="begins with s3://"):
        cloud.runtime.invoke_endpoint_async(EndpointName="echo", InputLocation="https://works/in")


def test_a_header_that_is_no_number_is_refused(standin: SageMaker) -> None:
    answer = httpx.post(
        f"{standin.url}/endpoints/echo/async-invocations",
        content=b"{}",
        headers={"X-Amzn-SageMaker-RequestTTLSeconds": "soon"},
        trust_env=False,
    )
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    assert "requestTTLSeconds" in answer.json()["Message"]


def test_an_unknown_endpoint_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="Endpoint nobody of account 123456789012 not found") as refused:
        cloud.invoke({}, "nobody")
    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_instances_work_on_so_many_at_a_time_and_the_rest_waits_its_turn(cloud: Cloud) -> None:
    cloud.deploy(instances=1, concurrency=2)
    doors = [cloud.door() for _ in range(4)]
    answers = [cloud.invoke({"hold": str(door), "say": str(door)}) for door in doors]
    cloud.until_metrics(ApproximateBacklogSize=4, ApproximateBacklogSizePerInstance=4)
    doors[3].open()  # the fourth would answer at once, were it not in the queue
    doors[1].open()
    assert cloud.until_object(answers[1]["OutputLocation"]).decode() == str(doors[1])
    doors[2].until_reached()
    assert cloud.object(answers[3]["OutputLocation"]) is None, "the third comes before the fourth"
    doors[2].open()
    assert cloud.until_object(answers[3]["OutputLocation"]).decode() == str(doors[3])
    assert cloud.object(answers[0]["OutputLocation"]) is None
    doors[0].open()
    cloud.until_metrics(ApproximateBacklogSize=0, InvocationsProcessed=4)


def test_work_goes_to_the_idlest_instance(cloud: Cloud) -> None:
    cloud.deploy(instances=2, concurrency=4)
    doors = [cloud.door() for _ in range(4)]
    answers = [cloud.invoke({"hold": str(door)}) for door in doors]
    for door in doors:
        door.open()
    pids = [json.loads(cloud.until_object(answer["OutputLocation"]))["pid"] for answer in answers]
    assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2]


def test_a_request_expires_in_the_queue(cloud: Cloud) -> None:
    cloud.deploy(concurrency=1)
    door = cloud.door()
    first = cloud.invoke({"hold": str(door), "say": "first"})
    late = cloud.invoke({"say": "late"}, RequestTTLSeconds=60, InferenceId="late")
    cloud.controls.advance(59)
    metrics = cloud.controls.metrics("echo")
    assert (metrics["ApproximateAgeOfOldestRequest"], metrics["ExpiredRequests"]) == (59, 0)
    cloud.controls.advance(1)
    message = cloud.message()
    assert (message["inferenceId"], message["invocationStatus"]) == ("late", "Failed")
    assert "expired" in message["failureReason"]
    assert b"expired" in cloud.until_object(late["FailureLocation"])
    door.open()
    assert cloud.until_object(first["OutputLocation"]) == b"first"
    cloud.until_metrics(ExpiredRequests=1, InvocationFailures=1, InvocationsProcessed=1)
    assert cloud.object(late["OutputLocation"]) is None


def test_a_request_waits_six_hours_at_most_by_default(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.set_instances("echo", 0)
    cloud.until_status("InService")
    cloud.invoke({}, InferenceId="old")
    cloud.controls.advance(21_599)
    assert cloud.controls.metrics("echo")["ExpiredRequests"] == 0
    cloud.controls.advance(1)
    assert "expired" in cloud.message()["failureReason"]


def test_one_that_is_being_worked_on_does_not_expire(cloud: Cloud) -> None:
    cloud.deploy()
    door = cloud.door()
    answer = cloud.invoke({"hold": str(door), "say": "done"}, RequestTTLSeconds=60)
    door.until_reached()
    cloud.controls.advance(61)
    door.open()
    assert cloud.until_object(answer["OutputLocation"]) == b"done"


@pytest.mark.parametrize(("asked", "seconds"), [({}, 900), ({"InvocationTimeoutSeconds": 30}, 30)])
def test_a_worker_has_its_time_and_no_more(cloud: Cloud, asked: dict[str, int], seconds: int) -> None:
    cloud.deploy(concurrency=1)
    door = cloud.door()
    answer = cloud.invoke({"hold": str(door)}, InferenceId="slow", **asked)
    door.until_reached()
    cloud.controls.advance(seconds - 1)
    assert cloud.controls.metrics("echo")["InvocationFailures"] == 0
    cloud.controls.advance(1)
    message = cloud.message()
    assert (message["inferenceId"], message["invocationStatus"]) == ("slow", "Failed")
    assert "timed out" in message["failureReason"]
    assert b"timed out" in cloud.until_object(answer["FailureLocation"])
    following = cloud.invoke({"say": "next"})
    assert cloud.until_object(following["OutputLocation"]) == b"next", "its place is free again"
    door.open()
    assert cloud.object(answer["OutputLocation"]) is None


def test_an_invocation_whose_worker_dies_is_given_to_another(cloud: Cloud) -> None:
    cloud.deploy()
    door = cloud.door()
    answer = cloud.invoke({"hold": str(door)})
    door.until_reached()
    killed = cloud.controls.kill_worker("echo")
    door.open()
    assert json.loads(cloud.until_object(answer["OutputLocation"]))["pid"] != killed
    assert cloud.message()["invocationStatus"] == "Completed"
    assert cloud.message_if_any() is None


def test_an_invocation_that_kills_its_workers_fails_in_the_end(cloud: Cloud) -> None:
    cloud.deploy()
    answer = cloud.invoke({"die": True}, InferenceId="killer")
    message = cloud.message()
    assert (message["inferenceId"], message["invocationStatus"]) == ("killer", "Failed")
    assert cloud.until_object(answer["FailureLocation"])
    healthy = cloud.invoke({"say": "alive"})
    assert cloud.until_object(healthy["OutputLocation"]) == b"alive", "the instance was replaced"
