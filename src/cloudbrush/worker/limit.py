"""No endless bodies: a request is refused before it fills the memory."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Bytes. SageMaker sends a real-time endpoint at most 6 MB, and an asynchronous one whatever was put into the
# bucket, up to 1 GB; an invocation is some hundred KB at most.
LIMIT = 32 * 2**20


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than `LIMIT` bytes, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body read, or refuse it in the form every error has."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = int(Headers(scope=scope).get("content-length") or 0)
        body = None if announced > LIMIT else await _read(receive)
        if body is None:
            detail = f"the invocation has more than {LIMIT} bytes"
            problem = {"code": "too_large", "detail": detail, "field": None, "hint": None}
            await JSONResponse(problem, 413)(scope, receive, send)
            return
        read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, again, send)


async def _read(receive: Receive) -> bytes | None:
    """The body, or None once it is too long; what there is of it when the caller hangs up."""
    body = bytearray()
    while len(body) <= LIMIT:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)
    return None
