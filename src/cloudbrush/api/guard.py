"""Who may speak to the application at all: known host names, no foreign web pages, no endless bodies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_HOST = "*"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware around everything, the studio included.

    A foreign name may be made to point here (DNS rebinding): only names in `hosts` are answered. A page of
    another site may post here from a person's browser: what changes something must come from our own pages,
    or from a program, which sends no Origin.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], limits: Mapping[str, int]) -> None:
        """`limits`: bytes a body may have, by the beginning of the path; the first that fits counts."""
        self._app = app
        self._hosts = frozenset(hosts)
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it in the form every error has."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            await _refusal(400, "unknown_host", "this host name is not known here")(scope, receive, send)
        elif scope["method"] not in SAFE_METHODS and self._is_foreign(headers):
            await _refusal(403, "foreign_origin", "web pages of other sites may not do this")(
                scope, receive, send
            )
        elif limit := self._limit(scope["path"]):
            await self._limited(scope, receive, send, int(headers.get("content-length") or 0), limit)
        else:
            await self._app(scope, receive, send)

    def _limit(self, path: str) -> int | None:
        return next((limit for prefix, limit in self._limits.items() if path.startswith(prefix)), None)

    def _is_ours(self, host: str) -> bool:
        return ANY_HOST in self._hosts or urlsplit(f"//{host}").hostname in self._hosts

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        named = origin is not None and not self._is_ours(urlsplit(origin).netloc)
        return named or headers.get("sec-fetch-site") == "cross-site"

    async def _limited(self, scope: Scope, receive: Receive, send: Send, announced: int, limit: int) -> None:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                return {"type": "http.disconnect"}  # it lied about its length, or did not tell
            return message

        if announced > limit:
            detail = f"the request has {announced} bytes; {limit} are allowed"
            await _refusal(413, "too_large", detail)(scope, receive, send)
        else:
            await self._app(scope, counted, send)


def _refusal(status: int, code: str, detail: str) -> JSONResponse:
    hint = {
        "unknown_host": "Use 127.0.0.1 or localhost, or name this host in CLOUDBRUSH_HOST_NAMES.",
        "foreign_origin": "Use the studio's own page, or a program.",
    }.get(code)
    return JSONResponse({"code": code, "detail": detail, "field": None, "hint": hint}, status)
