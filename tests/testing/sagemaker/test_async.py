"""Asynchronous inference: from InvokeEndpointAsync to object and message."""

from __future__ import annotations

import json

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
