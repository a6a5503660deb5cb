"""What a person with boto3 does to an account: the clients, and the few calls that most tests begin with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.exceptions import ClientError

from cloudbrush.testing.sagemaker import SageMaker

REGION = "eu-central-1"
ECHO = (sys.executable, str(Path(__file__).with_name("echo_worker.py")), "{port}")
PATIENCE = 30.0  # seconds for things that other processes do, on a busy machine
GLANCE = 0.02  # seconds between looks
ROLE = "arn:aws:iam::123456789012:role/worker"

Seen = TypeVar("Seen")


def until(look: Callable[[], Seen | None]) -> Seen:
    """What `look` sees, once it sees something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (seen := look()) is not None:
            return seen
        time.sleep(GLANCE)
    raise AssertionError("waited in vain")


class Cloud:
    """boto3's clients over moto and the stand-in."""

    def __init__(self, standin: SageMaker, folder: Path) -> None:
        self.standin = standin
        self.controls = standin.controls
        self.folder = folder
        self.sagemaker = boto3.client("sagemaker")
        self.runtime = boto3.client("sagemaker-runtime")
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket="works", CreateBucketConfiguration={"LocationConstraint": REGION})
        sns, self._sqs = boto3.client("sns"), boto3.client("sqs")
        self._queue = self._sqs.create_queue(QueueName="told")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        self.topics = {}
        for name in ("success", "error"):
            topic = self.topics[name] = sns.create_topic(Name=name)["TopicArn"]
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"])

    def output_config(self, **changes: Any) -> dict[str, Any]:
        """An OutputConfig with everything."""
        topics = {"SuccessTopic": self.topics["success"], "ErrorTopic": self.topics["error"]}
        paths = {"S3OutputPath": "s3://works/out", "S3FailurePath": "s3://works/bad"}
        return {**paths, "NotificationConfig": topics, **changes}

    def configure(
        self,
        name: str,
        *,
        real_time: bool = False,
        instances: int = 1,
        concurrency: int = 2,
        environment: dict[str, str] | None = None,
        output: dict[str, Any] | None = None,
    ) -> None:
        """Create a model and an endpoint configuration of one name."""
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/echo:1",
                "Environment": environment or {},
            },
        )
        variant = {
            "VariantName": "main",
            "ModelName": name,
            "InstanceType": "ml.g5.2xlarge",
            "InitialInstanceCount": instances,
        }
        asynchronous = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrency},
            "OutputConfig": output or self.output_config(),
        }
        more = {} if real_time else {"AsyncInferenceConfig": asynchronous}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)

    def deploy(self, name: str = "echo", **options: Any) -> str:
        """Configure and create an endpoint, and wait until it is InService."""
        self.configure(name, **options)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.until_status("InService", name)
        return name

    def describe(self, name: str = "echo") -> dict[str, Any]:
        """DescribeEndpoint."""
        return dict(self.sagemaker.describe_endpoint(EndpointName=name))

    def until_status(self, status: str, name: str = "echo") -> dict[str, Any]:
        """DescribeEndpoint, once it says so."""

        def look() -> dict[str, Any] | None:
            seen = self.describe(name)
            return seen if seen["EndpointStatus"] == status else None

        return until(look)

    def until_metrics(self, name: str = "echo", **values: float) -> None:
        """Wait until an endpoint's metrics are these."""

        def look() -> bool | None:
            seen = self.controls.metrics(name)
            return True if all(seen[key] == value for key, value in values.items()) else None

        until(look)

    def invoke(self, asked: dict[str, Any], name: str = "echo", **options: Any) -> dict[str, Any]:
        """InvokeEndpointAsync with the request inline."""
        body = json.dumps(asked).encode()
        return dict(self.runtime.invoke_endpoint_async(EndpointName=name, Body=body, **options))

    def object(self, uri: str) -> bytes | None:
        """An object's bytes, if it is there."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            assert error.response["Error"]["Code"] == "NoSuchKey"
            return None

    def until_object(self, uri: str) -> bytes:
        """An object's bytes, once it is there."""
        return until(lambda: self.object(uri))

    def message(self) -> dict[str, Any]:
        """The next message of either topic, once it is there."""
        return until(self.message_if_any)

    def message_if_any(self) -> dict[str, Any] | None:
        """The next message of either topic, if there is one."""
        for received in self._sqs.receive_message(QueueUrl=self._queue).get("Messages", ()):
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=received["ReceiptHandle"])
            told = json.loads(received["Body"])
            return {"topic": told["TopicArn"].rpartition(":")[2], **json.loads(told["Message"])}
        return None

    def held(self) -> Path:
        """A file that is not there yet; a worker told to `hold` waits for it."""
        return self.folder / f"go-{len(list(self.folder.iterdir()))}-{time.monotonic_ns()}"
