"""/endpoints: deploy, list, look, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from cloudbrush.api.asking import Plane
from cloudbrush.control import endpoints as control
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec

router = APIRouter(prefix="/endpoints", tags=["endpoints"])
Name = Annotated[str, Path(max_length=63)]


class Size(BaseModel):
    """How many instances there may be."""

    model_config = ConfigDict(extra="forbid")

    min_instances: Annotated[int, Field(ge=0, le=16)] | None = None
    max_instances: Annotated[int, Field(ge=1, le=64)] | None = None


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


@router.patch("/{name}", status_code=202)
async def resize_endpoint(name: Name, size: Size, plane: Plane) -> Endpoint:
    """Change how many instances an endpoint has; what is left out stays."""
    return await control.resize(plane, name, size.min_instances, size.max_instances)


@router.delete("/{name}", status_code=202)
async def delete_endpoint(name: Name, plane: Plane) -> Endpoint:
    """Begin to take an endpoint down; its unfinished jobs are cancelled."""
    return await control.delete(plane, name)
