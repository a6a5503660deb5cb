"""The worker's two routes, as SageMaker wants them: GET /ping and POST /invocations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from cloudbrush.domain.errors import InvalidInput, ModelFileError, NotFound, UnknownModel
from cloudbrush.domain.invocation import Failed, Finished, Invocation
from cloudbrush.worker.limit import BodyLimit
from cloudbrush.worker.runner import Runner

JSON_LINES = "application/jsonl"
REFUSED = frozenset(kind.code for kind in (InvalidInput, UnknownModel, ModelFileError, NotFound))


def create_app(runner: Runner) -> FastAPI:
    """The worker's HTTP application; it listens only once the engine can serve."""
    app = FastAPI(title="Cloudbrush worker", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit)

    @app.get("/ping")
    async def ping() -> Response:
        return Response(status_code=200 if runner.serves else 503)

    @app.post("/invocations")
    async def invocations(invocation: Invocation, request: Request) -> Response:
        if JSON_LINES in request.headers.get("accept", ""):
            return StreamingResponse(_lines(runner, invocation), media_type=JSON_LINES)
        return await _one_answer(runner, invocation)

    @app.exception_handler(RequestValidationError)
    async def refuse(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse(InvalidInput(first["msg"], field=field).as_dict(), status_code=400)

    return app


async def _lines(runner: Runner, invocation: Invocation) -> AsyncIterator[str]:
    """Events as they happen, one JSON object a line; a caller that hangs up stops the attempt."""
    async with aclosing(runner.run(invocation)) as events:
        async for event in events:
            yield event.model_dump_json() + "\n"


async def _one_answer(runner: Runner, invocation: Invocation) -> Response:
    """The final event alone; a failure is never an error inside a 200."""
    last: Finished | Failed | None = None
    async for event in runner.run(invocation):
        if isinstance(event, Finished | Failed):
            last = event
    assert last is not None, "Runner.run ends with a final event"
    status = 200 if isinstance(last, Finished) else 400 if last.code in REFUSED else 500
    return Response(last.model_dump_json(), status_code=status, media_type="application/json")
