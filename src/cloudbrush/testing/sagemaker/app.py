"""The stand-in's HTTP application: both APIs of the service, and the doors of `Controls` under /_standin."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Lifespan

from cloudbrush.testing.sagemaker import admin_api, control_api, runtime_api
from cloudbrush.testing.sagemaker.account import Account

Door = Callable[[Account, Request], Awaitable[Response]]
INVOCATIONS = {
    "invocations": "InvokeEndpoint",
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}


def create_app(account: Callable[[], Account], lifespan: Lifespan[Starlette]) -> Starlette:
    """The application; `account` answers once the lifespan has begun."""

    def door(serve: Door) -> Callable[[Request], Awaitable[Response]]:
        async def opened(request: Request) -> Response:
            response = await serve(account(), request)
            response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
            return response

        return opened

    def invocation(name: str) -> Door:
        async def serve(account: Account, request: Request) -> Response:
            return await runtime_api.answer(account, name, request)

        return serve

    return Starlette(
        routes=[
            Route("/", door(control_api.answer), methods=["POST"]),
            *(
                Route(f"/endpoints/{{EndpointName}}/{path}", door(invocation(name)), methods=["POST"])
                for path, name in INVOCATIONS.items()
            ),
            Mount(
                "/_standin",
                routes=[
                    Route(f"/{path}", door(serve), methods=[method])
                    for (method, path), serve in admin_api.DOORS.items()
                ],
            ),
        ],
        lifespan=lifespan,
    )
