"""/endpoints: deploy, list, look, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from cloudbrush.api.asking import Plane
from cloudbrush.control import endpoints as control
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec

router = APIRouter(prefix="/endpoints", tags=["endpoints"])
Name = Annotated[str, Path(max_length=63)]


@router.post("", status_code=202)
async def deploy_endpoint(spec: EndpointSpec, plane: Plane) -> Endpoint:
    """Bring up an endpoint; watch its state until it is `InService`."""
    return await control.deploy(plane, spec)


@router.get("")
def list_endpoints(plane: Plane) -> list[Endpoint]:
    """Every endpoint, newest first."""
    return plane.stores.endpoints.all()


@router.get("/{name}")
def get_endpoint(name: Name, plane: Plane) -> Endpoint:
    """The endpoint as it is now."""
    return plane.stores.endpoints.get(name)


@router.delete("/{name}", status_code=202)
async def delete_endpoint(name: Name, plane: Plane) -> Endpoint:
    """Begin to take an endpoint down; its unfinished jobs are cancelled."""
    return await control.delete(plane, name)
