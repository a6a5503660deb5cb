"""What goes wrong on request."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudbrush.testing.sagemaker import Fault, SageMaker
from tests.testing.sagemaker.cloud import ECHO, Cloud, until

ONE_TRY = Config(retries={"total_max_attempts": 1})


def test_throttled_calls_are_few_and_botocore_gets_over_them(cloud: Cloud) -> None:
    cloud.deploy()
    impatient = boto3.client("sagemaker-runtime", config=ONE_TRY)
    cloud.controls.throttle(1, "InvokeEndpointAsync")
    cloud.describe()  # another operation is not meant
    with pytest.raises(ClientError, match="Rate exceeded") as refused:
        impatient.invoke_endpoint_async(EndpointName="echo", Body=b"{}")
    assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    cloud.controls.throttle(2, "InvokeEndpointAsync")
    answer = cloud.invoke({"say": "at last"})
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert cloud.until_object(answer["OutputLocation"]) == b"at last"
    assert cloud.controls.met() == {"ThrottlingException": 3}
    assert cloud.controls.calls()["InvokeEndpointAsync"] == 4
    cloud.until_metrics(InvocationsProcessed=1)


def test_any_operation_may_be_refused(cloud: Cloud) -> None:
    cloud.controls.refuse("AccessDeniedException")
    with pytest.raises(ClientError) as refused:
        cloud.sagemaker.list_endpoints()
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert cloud.sagemaker.list_endpoints()["Endpoints"] == []
    with pytest.raises(ValueError, match="none of ThrottlingException"):
        cloud.controls.refuse("NoSuchError")


def test_a_lost_answer_makes_a_client_ask_twice(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.refuse("InternalFailure", operation="InvokeEndpointAsync", after=True)
    answer = cloud.invoke({"say": "twice"}, InferenceId="job-1")
    messages = [cloud.message(), cloud.message()]
    assert [message["inferenceId"] for message in messages] == ["job-1", "job-1"]
    locations = {message["responseParameters"]["outputLocation"] for message in messages}
    assert len(locations) == 2
    assert answer["OutputLocation"] in locations


def test_a_message_is_lost(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.MESSAGE_LOST)
    answer = cloud.invoke({"say": "untold"}, InferenceId="untold")
    assert cloud.until_object(answer["OutputLocation"]) == b"untold"
    cloud.invoke({}, InferenceId="told")
    assert cloud.message()["inferenceId"] == "told"
    assert cloud.message_if_any() is None
    assert cloud.controls.met() == {"message_lost": 1}


def test_a_failure_is_there_as_an_object_only(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.MESSAGE_LOST)
    answer = cloud.invoke({"status": 500, "say": "broke"})
    assert cloud.until_object(answer["FailureLocation"]) == b"broke"
    until(lambda: cloud.controls.met() or None)
    assert cloud.message_if_any() is None


def test_a_message_comes_twice(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.MESSAGE_TWICE)
    cloud.invoke({}, InferenceId="job-1")
    first, second = cloud.message(), cloud.message()
    assert first == second
    assert cloud.message_if_any() is None


def test_a_message_is_late(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.MESSAGE_LATE, seconds=90)
    answer = cloud.invoke({})
    assert cloud.until_object(answer["OutputLocation"])
    until(lambda: cloud.controls.met() or None)
    cloud.controls.advance(89)
    assert cloud.message_if_any() is None
    cloud.controls.advance(1)
    assert cloud.message()["eventTime"] == "2026-01-01T00:01:30.000Z"


def test_an_object_is_lost(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.OBJECT_LOST)
    answer = cloud.invoke({})
    assert cloud.message()["responseParameters"]["outputLocation"] == answer["OutputLocation"]
    assert cloud.object(answer["OutputLocation"]) is None


def test_an_object_is_late(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.OBJECT_LATE, seconds=30)
    answer = cloud.invoke({"say": "late"})
    assert cloud.message()["invocationStatus"] == "Completed"
    assert cloud.object(answer["OutputLocation"]) is None
    cloud.controls.advance(30)
    assert cloud.until_object(answer["OutputLocation"]) == b"late"


def test_an_invocation_fails_though_the_worker_did_well(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.INVOCATION_FAILS)
    answer = cloud.invoke({})
    assert cloud.message()["invocationStatus"] == "Failed"
    assert cloud.until_object(answer["FailureLocation"])
    assert cloud.object(answer["OutputLocation"]) is None


def test_output_comes_after_the_time_out_was_told(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.OUTPUT_AFTER_TIMEOUT)
    door = cloud.door()
    answer = cloud.invoke({"hold": str(door), "say": "too late"}, InvocationTimeoutSeconds=60)
    door.until_reached()
    cloud.controls.advance(60)
    assert "timed out" in cloud.message()["failureReason"]
    assert cloud.object(answer["OutputLocation"]) is None
    door.open()
    assert cloud.until_object(answer["OutputLocation"]) == b"too late"
    assert cloud.message_if_any() is None


def test_faults_can_be_taken_back(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.arm(Fault.MESSAGE_LOST, times=5)
    cloud.controls.throttle(5)
    cloud.controls.disarm()
    cloud.invoke({}, InferenceId="told")
    assert cloud.message()["inferenceId"] == "told"
    assert cloud.controls.met() == {}


def test_a_bucket_that_is_not_there_fails_the_invocation(cloud: Cloud) -> None:
    cloud.deploy(output=cloud.output_config(S3OutputPath="s3://nowhere/out"))
    cloud.invoke({})
    message = cloud.message()
    assert message["invocationStatus"] == "Failed"
    assert "s3://nowhere/out" in message["failureReason"]
    cloud.until_metrics(ResponseUploadFailures=1, InvocationFailures=1)


def test_a_topic_that_is_not_there_is_counted(cloud: Cloud) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:nobody"
    cloud.deploy(output=cloud.output_config(NotificationConfig={"SuccessTopic": topic}))
    cloud.invoke({})
    cloud.until_metrics(NotificationFailures=1, InvocationsProcessed=1)


def test_the_walls_clock_cannot_be_moved(aws: None) -> None:
    with SageMaker(ECHO) as standin:
        with pytest.raises(ValueError, match="wall's clock"):
            standin.controls.advance(1)
        with pytest.raises(ValueError, match="no delay called sleeping"):
            standin.controls.delay(sleeping=1)


def test_a_stream_may_be_used_up_and_refused_all_the_same(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    operation = "InvokeEndpointWithResponseStream"
    cloud.controls.refuse("InternalFailure", operation=operation, after=True)
    answer = cloud.runtime.invoke_endpoint_with_response_stream(
        EndpointName="echo", Body=b'{"chunks": ["one"]}'
    )
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"one"
    assert cloud.controls.calls()[operation] == 2
    assert cloud.controls.logs("echo").count("POST /invocations") == 2
