"""How an asynchronous invocation's end is told: an object in S3 and a message on an SNS topic.

"Check prediction results" of the developer guide shows the messages; where it is silent, the docstrings here
say what the stand-in does.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cloudbrush.testing.sagemaker.clock import Clock
from cloudbrush.testing.sagemaker.faults import Fault, Faults
from cloudbrush.testing.sagemaker.records import EndpointConfig

LARGEST_IN_MESSAGE = 128 * 1024  # bytes of a response that SNS is told with IncludeInferenceResponseIn
AWS_ERRORS = (BotoCoreError, ClientError)


@dataclass(frozen=True)
class Request:
    """An invocation that was accepted."""

    inference_id: str
    endpoint: str
    received_at: datetime
    output: str  # S3 URI
    failure: str | None  # S3 URI
    ttl: float  # seconds it may wait
    timeout: float  # seconds a worker may take
    body: bytes | None = None
    input_location: str | None = None  # S3 URI, where there is no body
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the container is sent beside the body."""
        named = {
            "Content-Type": self.content_type,
            "Accept": self.accept,
            "X-Amzn-SageMaker-Custom-Attributes": self.custom_attributes,
            "X-Amzn-SageMaker-Inference-Id": self.inference_id,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Outcome:
    """How it ended; `reason` is None for success. `body` is the container's response, if there was one."""

    reason: str | None
    body: bytes = b""
    content_type: str = "application/octet-stream"


class Delivery:
    """Writes objects and messages with boto3, to whatever AWS_ENDPOINT_URL* says."""

    def __init__(self, region: str, clock: Clock, faults: Faults) -> None:
        session = boto3.Session(region_name=region)
        self._s3 = session.client("s3")
        self._sns = session.client("sns")
        self._region = region
        self._clock = clock
        self._faults = faults

    async def fetch(self, uri: str) -> bytes:
        """An object's bytes. Raises boto3's errors."""
        bucket, key = _bucket_and_key(uri)

        def read() -> bytes:
            return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())

        return await asyncio.to_thread(read)

    async def deliver(
        self, request: Request, outcome: Outcome, config: EndpointConfig, counts: Counter[str]
    ) -> None:
        """Object first, then message, unless a fault is armed; `counts` are the endpoint's metrics."""
        late = self._faults.take(Fault.OBJECT_LATE)
        if late is None:
            outcome = await self.write(request, outcome, counts)
        await self._tell(request, outcome, config, counts)
        if late is not None:
            await self._clock.sleep(late)
            await self.write(request, outcome, counts)

    async def write(self, request: Request, outcome: Outcome, counts: Counter[str]) -> Outcome:
        """The output object, or the failure object where S3FailurePath is set.

        A failure without a response of the container (it timed out, it expired) has its reason as the
        object's text. The answer is a failed outcome when the output could not be written.
        """
        uri = request.failure if outcome.reason else request.output
        if uri is None or self._faults.take(Fault.OBJECT_LOST) is not None:
            return outcome
        bucket, key = _bucket_and_key(uri)
        body = outcome.body or (outcome.reason or "").encode()
        try:
            await asyncio.to_thread(
                self._s3.put_object, Bucket=bucket, Key=key, Body=body, ContentType=outcome.content_type
            )
        except AWS_ERRORS as error:
            counts["ResponseUploadFailures"] += 1
            return Outcome(outcome.reason or f"ClientError: Unable to upload the response to {uri}: {error}")
        return outcome

    async def _tell(
        self, request: Request, outcome: Outcome, config: EndpointConfig, counts: Counter[str]
    ) -> None:
        topics = config.output.get("NotificationConfig", {})
        topic = topics.get("ErrorTopic" if outcome.reason else "SuccessTopic")
        if topic is None or self._faults.take(Fault.MESSAGE_LOST) is not None:
            return
        late = self._faults.take(Fault.MESSAGE_LATE)
        if late is not None:
            await self._clock.sleep(late)
        kind = "ERROR_NOTIFICATION_TOPIC" if outcome.reason else "SUCCESS_NOTIFICATION_TOPIC"
        included = kind in topics.get("IncludeInferenceResponseIn", ())
        message = json.dumps(self.message(request, outcome, included=included))
        twice = self._faults.take(Fault.MESSAGE_TWICE) is not None
        for _ in range(2 if twice else 1):
            try:
                await asyncio.to_thread(self._sns.publish, TopicArn=topic, Message=message)
            except AWS_ERRORS:
                counts["NotificationFailures"] += 1

    def message(self, request: Request, outcome: Outcome, *, included: bool) -> dict[str, Any]:
        """What SNS is told, in the members and the order of the guide's example.

        `responseBody` carries the response in base64, if it is to be included and small enough.
        """
        asked = {
            "accept": request.accept,
            "contentType": request.content_type,
            "customAttributes": request.custom_attributes,
            "endpointName": request.endpoint,
            "inputLocation": request.input_location,
        }
        message: dict[str, Any] = {
            "awsRegion": self._region,
            "eventTime": _time(self._clock.now()),
            "receivedTime": _time(request.received_at),
            "invocationStatus": "Failed" if outcome.reason else "Completed",
        }
        if outcome.reason:
            message["failureReason"] = outcome.reason
        message["requestParameters"] = {name: value for name, value in asked.items() if value is not None}
        if not outcome.reason:
            where = {"contentType": outcome.content_type, "outputLocation": request.output}
            message["responseParameters"] = where
        if included and len(outcome.body) <= LARGEST_IN_MESSAGE:
            content = base64.b64encode(outcome.body).decode()
            message["responseBody"] = {"content": content, "encoding": "BASE64"}
        return message | {
            "inferenceId": request.inference_id,
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
        }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
