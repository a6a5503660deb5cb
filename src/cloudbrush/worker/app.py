"""The worker's two routes, as SageMaker wants them: GET /ping and POST /invocations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from cloudbrush.domain.errors import Cancelled, InvalidInput, ModelFileError, NotFound, UnknownModel
from cloudbrush.domain.invocation import Delivery, Failed, Finished, Heartbeat, Invocation, WorkerEvent
from cloudbrush.worker.limit import BodyLimit
from cloudbrush.worker.runner import Runner

JSON_LINES = "application/jsonl"
REFUSED = frozenset(kind.code for kind in (InvalidInput, UnknownModel, ModelFileError, NotFound, Cancelled))
FIRST_WORD = 10.0  # seconds a stream's status may wait for a step or an error, well below any silence limit


def create_app(runner: Runner) -> FastAPI:
    """The worker's HTTP application; it listens only once the engine can serve."""
    app = FastAPI(title="Cloudbrush worker", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit)

    @app.get("/ping")
    async def ping() -> Response:
        return Response(status_code=200 if runner.serves else 503)

    @app.post("/invocations")
    async def invocations(invocation: Invocation) -> Response:
        if invocation.delivery is Delivery.STREAM:
            return await _stream(runner.run(invocation))
        return await _one_answer(runner.run(invocation))

    @app.exception_handler(RequestValidationError)
    async def refuse(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse(InvalidInput(first["msg"], field=field).as_dict(), status_code=400)

    return app


async def _stream(events: AsyncGenerator[WorkerEvent]) -> Response:
    """Events as they happen; what fails before the first step is no stream but an error."""
    first = await _first_word(events)
    return _problem(first) if isinstance(first, Failed) else _lines(first, events)


async def _first_word(events: AsyncGenerator[WorkerEvent]) -> WorkerEvent:
    """The first event that says something, or a heartbeat when that takes long."""
    patience = asyncio.get_running_loop().time() + FIRST_WORD
    while True:
        event = await anext(events)
        if not isinstance(event, Heartbeat) or asyncio.get_running_loop().time() > patience:
            return event


def _lines(first: WorkerEvent, others: AsyncGenerator[WorkerEvent]) -> Response:
    """One JSON object a line; a caller that hangs up stops the attempt."""

    async def lines() -> AsyncIterator[str]:
        async with aclosing(others):
            yield first.model_dump_json() + "\n"
            async for event in others:
                yield event.model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type=JSON_LINES)


async def _one_answer(events: AsyncGenerator[WorkerEvent]) -> Response:
    """The final event alone; a failure is never an error inside a 200."""
    last: WorkerEvent | None = None
    async for event in events:
        last = event
    if isinstance(last, Failed):
        return _problem(last)
    assert isinstance(last, Finished), "Runner.run ends with a final event"
    return Response(last.model_dump_json(), media_type="application/json")


def _problem(failed: Failed) -> Response:
    status = 400 if failed.code in REFUSED else 500
    return Response(failed.model_dump_json(exclude={"kind"}), status, media_type="application/json")
