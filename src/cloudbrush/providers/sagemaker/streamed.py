"""Invocations of real-time endpoints: the worker's own events, through a response stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

from anyio import to_thread
from pydantic import ValidationError

from cloudbrush.aws.account import AwsRefused
from cloudbrush.domain.errors import RanTooLong, WorkerLost
from cloudbrush.domain.invocation import WORKER_EVENT, Failed, Finished, Heartbeat, Invocation, WorkerEvent
from cloudbrush.providers import answers
from cloudbrush.providers.sagemaker.calls import Calls
from cloudbrush.providers.sagemaker.outcomes import inference_id
from cloudbrush.providers.sagemaker.patience import patiently


class Streamed:
    """Follows an invocation for as long as its stream lasts."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def invoke(self, endpoint: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """See `Provider.invoke`."""
        try:
            stream: Any = None
            async for stream in patiently(lambda: self._ask(endpoint, invocation)):
                if stream is None:
                    yield Heartbeat()
        except AwsRefused as error:
            yield _refusal(error)
            return
        try:
            async for line in _lines(stream):
                event = _event(line)
                yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            with suppress(Exception):
                stream.close()  # hangs up, where it did not end
        raise WorkerLost("the worker ended the conversation without a result")

    async def _ask(self, endpoint: str, invocation: Invocation) -> Any:
        answer = await self._calls.call(
            "sagemaker-runtime",
            "invoke_endpoint_with_response_stream",
            EndpointName=endpoint,
            ContentType="application/json",
            InferenceId=inference_id(invocation.job_id, invocation.epoch),
            Body=invocation.model_dump_json().encode(),
        )
        return answer["Body"]


async def _lines(stream: Any) -> AsyncGenerator[bytes]:
    """The lines of a stream, whose parts may end anywhere. Raises `WorkerLost` when it breaks off."""
    parts = iter(stream)
    rest = b""
    while (part := await to_thread.run_sync(_next_part, parts, abandon_on_cancel=True)) is not None:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _next_part(parts: Iterator[dict[str, Any]]) -> bytes | None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        for part in parts:
            if "PayloadPart" in part:
                return bytes(part["PayloadPart"]["Bytes"])
        return None
    except ClientError as error:  # the model's or SageMaker's side of the stream broke
        said = error.response.get("Error", {}).get("Message") or str(error)
        if "allotted time" in said:  # botocore drops ModelStreamError's own code
            raise RanTooLong(
                f"it ran longer than a real-time endpoint allows: {said}",
                hint="Try fewer steps, a smaller size or batch, or an asynchronous endpoint.",
            ) from error
        raise WorkerLost(f"the stream of the worker broke off: {said}") from error
    except (BotoCoreError, OSError) as error:
        raise WorkerLost("the stream of the worker broke off") from error


def _event(line: bytes) -> WorkerEvent:
    try:
        return WORKER_EVENT.validate_json(line)
    except ValidationError as error:
        raise WorkerLost("the worker said what no worker of this version says") from error


def _refusal(error: AwsRefused) -> Failed:
    """What the worker answered instead of a stream. Raises the error itself where it was not the worker."""
    if error.reason != "ModelError":
        raise error
    response = getattr(error.__cause__, "response", {})
    if failed := answers.failure(response.get("OriginalMessage", "").encode()):
        return failed
    raise WorkerLost(f"the instance did not deliver: {error.detail}") from error
