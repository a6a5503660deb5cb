"""/health and /ready: is the process alive, and can it do its work."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from cloudbrush import __version__
from cloudbrush.api.asking import Plane

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """A sign of life."""

    status: str = "ok"
    version: str = __version__


@router.get("/health")
def health() -> Health:
    """The process answers."""
    return Health()


@router.get("/ready")
def ready(plane: Plane) -> Health:
    """The process and its database answer; 503 otherwise."""
    plane.stores.endpoints.all()
    return Health()
