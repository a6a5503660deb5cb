"""Endpoints: named places that run workers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

THIS_MACHINE = "this-machine"  # the endpoint of jobs that choose none; its worker starts when first needed


class EndpointState(StrEnum):
    """Where an endpoint is in its life; the words are Amazon SageMaker's."""

    CREATING = "Creating"  # workers are starting
    IN_SERVICE = "InService"  # accepts jobs
    UPDATING = "Updating"  # its instances are being changed
    DELETING = "Deleting"  # going away; accepts nothing
    FAILED = "Failed"  # could not be brought up; the reason is kept


class EndpointSpec(BaseModel):
    """What was asked for when an endpoint was deployed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9](-?[a-zA-Z0-9]){0,62}$", description="letters, digits, -")
    ]
    provider: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")] = "local"
    min_instances: Annotated[int, Field(ge=0, le=16)] = 1
    concurrency: Annotated[int, Field(ge=1, le=64, description="invocations per instance")] = 4


class Endpoint(BaseModel):
    """A deployed endpoint and its state. Frozen: every change is a new value."""

    model_config = ConfigDict(frozen=True)

    spec: EndpointSpec
    state: EndpointState = EndpointState.CREATING
    created_at: datetime
    changed_at: datetime  # of the state
    instances: int = 0
    failure_reason: str | None = None
    version: int = 0  # compare-and-set guard of the store

    @property
    def name(self) -> str:
        """The endpoint's name, unique in one control plane."""
        return self.spec.name

    def evolved(self, now: datetime, **changes: Any) -> Self:
        """The endpoint with changes; `changed_at` moves with the state."""
        if changes.get("state", self.state) != self.state:
            changes["changed_at"] = now
        return self.model_copy(update=changes)
