"""Every error as a status and `{"code", "detail", "field", "hint"}`; no trace or path ever leaves."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from cloudbrush.domain.errors import (
    CloudbrushError,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    ModelFileError,
    NotFound,
    Unavailable,
)

log = structlog.get_logger()

# The first class an error is an instance of decides.
STATUS: tuple[tuple[type[CloudbrushError], int], ...] = (
    (IdempotencyMismatch, 422),
    (InvalidInput, 422),
    (ModelFileError, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)
MAX_DETAIL = 300  # characters; a message is for reading


class Problem(BaseModel):
    """The body of every error response."""

    code: str
    detail: str
    field: str | None = None
    hint: str | None = None


TASKS = ("txt2img", "img2img")  # pydantic names the kind of generation on the way to a field


def install(app: FastAPI) -> None:
    """Answer every failure of the application in the one form."""

    @app.exception_handler(CloudbrushError)
    def known(_request: Request, error: CloudbrushError) -> JSONResponse:
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
        return _answer(status, error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in TASKS]
        field = ".".join(place[1:]) or place[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        return _answer(422, InvalidInput(message, field=field))

    @app.exception_handler(HTTPException)
    def refused(_request: Request, error: HTTPException) -> JSONResponse:
        code = {404: NotFound.code, 405: "method_not_allowed"}.get(error.status_code, "refused")
        body = {"code": code, "detail": str(error.detail), "field": None, "hint": None}
        return JSONResponse(body, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected error", path=request.url.path, exc_info=error)
        return _answer(500, CloudbrushError("something went wrong inside Cloudbrush", hint="See its log."))


def _answer(status: int, error: CloudbrushError) -> JSONResponse:
    body = error.as_dict()
    body["detail"] = error.detail[:MAX_DETAIL]
    headers = {"Retry-After": "5"} if status == 503 else None
    return JSONResponse(body, status, headers=headers)
