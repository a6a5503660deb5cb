"""/health and /ready: is the process alive, and can it do its work."""

from __future__ import annotations

from fastapi import APIRouter

from cloudbrush.api.asking import Plane
from cloudbrush.domain.health import Health

router = APIRouter(tags=["health"])


@router.get("/health")
def health(plane: Plane) -> Health:
    """The process answers."""
    return Health(providers=tuple(plane.providers))


@router.get("/ready")
def ready(plane: Plane) -> Health:
    """The process and its database answer; 503 otherwise."""
    plane.stores.endpoints.all()
    return health(plane)
