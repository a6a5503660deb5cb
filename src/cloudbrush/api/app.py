"""The REST application under /api/v1."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI

from cloudbrush import __version__
from cloudbrush.api import endpoints, errors, health, jobs, models, pictures
from cloudbrush.api.guard import Guard
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain import image_file

PREFIX = "/api/v1"
MAX_BODY = 2**20  # bytes of a request; a generation with the longest prompts needs a tenth
LOOPBACK = ("127.0.0.1", "localhost")
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": errors.Problem, "description": meaning}
    for code, meaning in {
        400: "The request is broken, or names a host that is not known here.",
        403: "A web page of another site tried to change something.",
        404: "There is no such thing, or it is not yours.",
        409: "The thing is not in a state that allows this.",
        413: "The request is too large.",
        422: "A value was refused; `field` names it.",
        503: "A part Cloudbrush needs does not answer now.",
    }.items()
}


def create_app(
    plane: ControlPlane, lifespan: AbstractAsyncContextManager[None], hosts: Sequence[str] = LOOPBACK
) -> FastAPI:
    """The application over one control plane; `lifespan` runs its background work.

    It answers only to the names in `hosts`.
    """
    app = FastAPI(
        title="Cloudbrush",
        version=__version__,
        summary="A Stable Diffusion studio that paints in the cloud.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        lifespan=lambda _app: lifespan,
    )
    app.state.plane = plane
    limits = {f"{PREFIX}/pictures": image_file.MAX_BYTES, PREFIX: MAX_BODY}
    app.add_middleware(Guard, hosts=hosts, limits=limits)
    router = APIRouter(prefix=PREFIX, responses=PROBLEMS)
    for resource in (jobs, pictures, endpoints, models, health):
        router.include_router(resource.router)
    app.include_router(router)
    errors.install(app)
    return app
