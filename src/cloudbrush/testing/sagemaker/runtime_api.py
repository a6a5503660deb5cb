"""The `sagemaker-runtime` API: REST, one path an operation."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import httpx
from anyio import CancelScope
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cloudbrush.testing.sagemaker import eventstream, shapes
from cloudbrush.testing.sagemaker.account import ACCOUNT, Account
from cloudbrush.testing.sagemaker.clock import within
from cloudbrush.testing.sagemaker.delivery import Request as Invocation
from cloudbrush.testing.sagemaker.endpoint import ANSWERING, Endpoint
from cloudbrush.testing.sagemaker.errors import Invalid, Refused, WorkerGone
from cloudbrush.testing.sagemaker.faults import Fault
from cloudbrush.testing.sagemaker.worker import TIMED_OUT, Worker

# Seconds: "InvokeEndpointAsync" of the API reference, and "Model Hosting FAQs" of the developer guide.
TTL = 21600
TIMEOUT = 900
ANSWER_LIMIT = 60.0
STREAM_LIMIT = 480.0

LATE = "did not complete sending the inference response in the allotted time"  # as callers report it

Asked = dict[str, Any]


async def invoke_endpoint_async(account: Account, asked: Asked) -> Response:
    """InvokeEndpointAsync: 202 once the invocation is in the queue."""
    endpoint = _endpoint(account, asked)
    if endpoint.config.asynchronous is None:
        raise Invalid(f"Endpoint {endpoint.name} is not asynchronous: use InvokeEndpoint.")
    if ("Body" in asked) == ("InputLocation" in asked):
        raise Invalid("Provide exactly one of Body and InputLocation.")
    if not asked.get("InputLocation", "s3://").startswith("s3://"):
        raise Invalid("The stand-in reads an InputLocation that begins with s3://.")
    invocation = _invocation(account, endpoint, asked)
    endpoint.queue.put(invocation)
    shape = shapes.operation("sagemaker-runtime", "InvokeEndpointAsync").output_shape
    where = {"OutputLocation": invocation.output, "FailureLocation": invocation.failure}
    content = json.dumps({"InferenceId": invocation.inference_id})
    return Response(content, 202, shapes.to_headers(shape, where), "application/json")


def _invocation(account: Account, endpoint: Endpoint, asked: Asked) -> Invocation:
    """Objects are named at random, as the guide's examples show them: clients learn names from the answer."""
    name = uuid.uuid4()
    output = endpoint.config.output
    folder = "/".join(
        part.strip("/") for part in (output["S3OutputPath"], asked.get("S3OutputPathExtension")) if part
    )
    failures = output.get("S3FailurePath")
    return Invocation(
        inference_id=asked.get("InferenceId") or str(uuid.uuid4()),
        endpoint=endpoint.name,
        received_at=account.clock.now(),
        output=f"{folder}/{asked.get('Filename') or f'{name}.out'}",
        failure=f"{failures.rstrip('/')}/{name}-error.out" if failures else None,
        ttl=asked.get("RequestTTLSeconds", TTL),
        timeout=asked.get("InvocationTimeoutSeconds", TIMEOUT),
        body=asked.get("Body"),
        input_location=asked.get("InputLocation"),
        content_type=asked.get("ContentType"),
        accept=asked.get("Accept"),
        custom_attributes=asked.get("CustomAttributes"),
    )


async def invoke_endpoint(account: Account, asked: Asked) -> Response:
    """InvokeEndpoint: the container's answer, within 60 seconds."""
    endpoint, worker = _instance(account, asked)
    worker.running += 1
    try:
        status, headers, body = await within(account.clock, ANSWER_LIMIT, _whole(worker, asked))
    except TimeoutError as error:
        raise _model_error(account, endpoint, 0, TIMED_OUT) from error
    except WorkerGone as error:
        raise _model_error(account, endpoint, 0, str(error)) from error
    finally:
        worker.running -= 1
    if status >= 400:
        raise _model_error(account, endpoint, status, body.decode(errors="replace"))
    return Response(body, headers=_answer_headers("InvokeEndpoint", endpoint, headers))


async def invoke_with_response_stream(account: Account, asked: Asked) -> Response:
    """InvokeEndpointWithResponseStream: what the container says, while it says it."""
    endpoint, worker = _instance(account, asked)
    try:
        async with AsyncExitStack() as opening:
            worker.running += 1
            opening.callback(_release, worker)
            invoked = opening.enter_async_context(worker.invoked(asked["Body"], _sent(asked)))
            response = await within(account.clock, ANSWER_LIMIT, invoked)
            if response.is_error:
                text = (await response.aread()).decode(errors="replace")
                raise _model_error(account, endpoint, response.status_code, text)
            open_still = opening.pop_all()
    except TimeoutError as error:
        raise _model_error(account, endpoint, 0, TIMED_OUT) from error
    except WorkerGone as error:
        raise _model_error(account, endpoint, 0, str(error)) from error
    headers = _answer_headers("InvokeEndpointWithResponseStream", endpoint, response.headers)
    frames = _frames(account, response, open_still)
    return StreamingResponse(frames, headers=headers, media_type="application/vnd.amazon.eventstream")


async def _frames(account: Account, response: httpx.Response, opened: AsyncExitStack) -> AsyncIterator[bytes]:
    """The container's chunks as payload parts; a caller that hangs up breaks off the container, too."""
    chunks = response.aiter_raw()
    until = account.clock.now() + timedelta(seconds=STREAM_LIMIT)
    try:
        while True:
            left = (until - account.clock.now()).total_seconds()
            if (chunk := await within(account.clock, left, anext(chunks, None))) is None:
                return
            yield eventstream.part(chunk)
            if account.faults.take(Fault.STREAM_BREAKS) is not None:
                raise WorkerGone("was cut off on request of a test")
            if account.faults.take(Fault.STREAM_FAILS) is not None:
                yield eventstream.failure("InternalStreamFailure", "On request of a test.")
                return
    except TimeoutError:
        yield _stream_error("ModelInvocationTimeExceeded", LATE)
    except (WorkerGone, httpx.TransportError):
        yield _stream_error("StreamBroken", "closed the connection before it had sent its response")
    finally:
        with CancelScope(shield=True):  # the caller may be gone, and the framework cancel
            await opened.aclose()


def _stream_error(code: str, what: str) -> bytes:
    return eventstream.failure("ModelStreamError", f"Your model primary {what}.", ErrorCode=code)


def _release(worker: Worker) -> None:
    worker.running -= 1


async def _whole(worker: Worker, asked: Asked) -> tuple[int, httpx.Headers, bytes]:
    async with worker.invoked(asked["Body"], _sent(asked)) as response:
        return response.status_code, response.headers, await response.aread()


def _endpoint(account: Account, asked: Asked) -> Endpoint:
    """The runtime knows only endpoints that can answer."""
    endpoint = account.endpoints.get(asked["EndpointName"])
    if endpoint is None or endpoint.status not in ANSWERING:
        message = f"Endpoint {asked['EndpointName']} of account {ACCOUNT} not found."
        raise Invalid(message, ErrorCode="NO_SUCH_ENDPOINT")
    return endpoint


def _instance(account: Account, asked: Asked) -> tuple[Endpoint, Worker]:
    """A real-time endpoint and one of its instances. Raises `Invalid`, `Refused`."""
    endpoint = _endpoint(account, asked)
    if endpoint.config.asynchronous is not None:
        raise Invalid(f"Endpoint {endpoint.name} is asynchronous: use InvokeEndpointAsync.")
    worker = endpoint.pick()
    if worker is None:
        raise Refused("ServiceUnavailable", 503, "No instance of the endpoint is healthy.")
    return endpoint, worker


def _sent(asked: Asked) -> dict[str, str]:
    """The headers the container gets."""
    named = {
        "Content-Type": asked.get("ContentType"),
        "Accept": asked.get("Accept"),
        "X-Amzn-SageMaker-Custom-Attributes": asked.get("CustomAttributes"),
        "X-Amzn-SageMaker-Inference-Id": asked.get("InferenceId"),
        "X-Amzn-SageMaker-Session-Id": asked.get("SessionId"),
    }
    return {name: value for name, value in named.items() if value is not None}


def _answer_headers(operation: str, endpoint: Endpoint, said: httpx.Headers) -> dict[str, str]:
    """The headers the caller gets."""
    shape = shapes.operation("sagemaker-runtime", operation).output_shape
    values = {
        "ContentType": said.get("content-type"),
        "CustomAttributes": said.get("x-amzn-sagemaker-custom-attributes"),
        "InvokedProductionVariant": endpoint.config.variant["VariantName"],
    }
    return shapes.to_headers(shape, values)


def _model_error(account: Account, endpoint: Endpoint, status: int, said: str) -> Refused:
    """The container answered badly, or, with status 0, not at all."""
    group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
    whose = "client" if 400 <= status < 500 else "server"
    console = f"https://{account.region}.console.aws.amazon.com/cloudwatch/home?region={account.region}"
    message = (
        f'Received {whose} error ({status}) from primary with message "{said}". See '
        f"{console}#logEventViewer:group={group} in account {ACCOUNT} for more information."
    )
    stream = f"arn:aws:logs:{account.region}:{ACCOUNT}:log-group:{group}"
    return Refused(
        "ModelError", 424, message, OriginalStatusCode=status, OriginalMessage=said, LogStreamArn=stream
    )


OPERATIONS = {
    "InvokeEndpoint": invoke_endpoint,
    "InvokeEndpointAsync": invoke_endpoint_async,
    "InvokeEndpointWithResponseStream": invoke_with_response_stream,
}


async def answer(account: Account, name: str, request: Request) -> Response:
    """One call of the named operation."""
    account.calls[name] += 1
    shape = shapes.operation("sagemaker-runtime", name).input_shape
    body = await request.body()
    try:
        if refused := account.faults.refusal(name, after=False):
            raise refused
        asked = shapes.from_rest(shape, request.path_params, request.headers, body)
        shapes.check(shape, asked)
        response = await OPERATIONS[name](account, asked)
        if refused := account.faults.refusal(name, after=True):
            if isinstance(response, StreamingResponse):
                _ = [part async for part in response.body_iterator]
            raise refused
    except Invalid as error:
        return _error(Refused("ValidationError", 400, error.message, **error.fields))
    except Refused as error:
        return _error(error)
    return response


def _error(error: Refused) -> Response:
    content = json.dumps({"Message": error.message, **error.fields})
    return Response(content, error.status, {"x-amzn-ErrorType": error.code}, "application/json")
