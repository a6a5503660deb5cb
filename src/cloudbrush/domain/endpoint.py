"""Endpoints: named places that run workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

THIS_MACHINE = "this-machine"  # the endpoint of jobs that choose none; its worker starts when first needed
SAGEMAKER = "sagemaker"  # the provider whose instances are rented


class EndpointState(StrEnum):
    """Where an endpoint is in its life; the words are Amazon SageMaker's."""

    CREATING = "Creating"  # workers are starting
    IN_SERVICE = "InService"  # accepts jobs
    UPDATING = "Updating"  # its instances are being changed; accepts jobs meanwhile
    DELETING = "Deleting"  # going away; accepts nothing
    FAILED = "Failed"  # could not be brought up; the reason is kept

    @property
    def takes_jobs(self) -> bool:
        """Whether jobs may be submitted and run."""
        return self in (EndpointState.IN_SERVICE, EndpointState.UPDATING)


class EndpointKind(StrEnum):
    """How a rented endpoint is reached."""

    ASYNC = "async"  # it queues invocations itself, and may scale to zero
    REALTIME = "realtime"  # each invocation goes to an instance at once


_RENTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "kind": lambda _asked: EndpointKind.ASYNC,
    "instance_type": lambda _asked: "ml.g5.2xlarge",
    "autoscaling": lambda _asked: True,
    "max_instances": lambda asked: max(1, asked.get("min_instances", 1)),
    "scale_in_minutes": lambda _asked: 6,
    "target_backlog": lambda asked: _busy(asked.get("kind"), asked.get("concurrency", 4)),
}
"""What only rented endpoints have, and what it is when left open; by what was asked for before it."""


def _busy(kind: EndpointKind | None, concurrency: int) -> int:
    """From how many invocations per instance on there should be more of them.

    A real-time endpoint is never given more than its instances can run, so it must grow before they are full.
    """
    return max(1, concurrency * 3 // 4) if kind is EndpointKind.REALTIME else concurrency


class EndpointSpec(BaseModel):
    """What was asked for when an endpoint was deployed. What only rented endpoints have is None elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9](-?[a-zA-Z0-9]){0,62}$", description="letters, digits, -")
    ]
    provider: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")] = "local"
    kind: EndpointKind | None = Field(default=None, validate_default=True)
    instance_type: str | None = Field(
        default=None, pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$", validate_default=True
    )
    autoscaling: bool | None = Field(default=None, validate_default=True)
    min_instances: Annotated[int, Field(ge=0, le=16)] = 1
    max_instances: int | None = Field(default=None, ge=1, le=64, validate_default=True)
    concurrency: Annotated[int, Field(ge=1, le=64, description="invocations per instance")] = 4
    scale_in_minutes: int | None = Field(
        default=None, ge=1, le=60, validate_default=True, description="idle minutes before instances go"
    )
    target_backlog: int | None = Field(
        default=None, ge=1, le=1000, validate_default=True, description="waiting and running, per instance"
    )

    @field_validator(*_RENTED)
    @classmethod
    def _only_rented(cls, value: Any, known: ValidationInfo) -> Any:
        assert known.field_name is not None
        if known.data.get("provider") == SAGEMAKER:
            return _RENTED[known.field_name](known.data) if value is None else value
        if value is not None:
            raise ValueError(f"is for endpoints of the provider {SAGEMAKER!r} only")
        return None

    @field_validator("min_instances")
    @classmethod
    def _starts_from_zero(cls, fewest: int, known: ValidationInfo) -> int:
        asked = known.data
        grows = asked.get("kind") is EndpointKind.ASYNC and asked.get("autoscaling")
        if fewest == 0 and asked.get("provider") == SAGEMAKER and not grows:
            raise ValueError("may be 0 only for an async endpoint with autoscaling")
        return fewest

    @field_validator("max_instances")
    @classmethod
    def _at_least_the_fewest(cls, most: int | None, known: ValidationInfo) -> int | None:
        if most is not None and most < known.data.get("min_instances", 1):
            raise ValueError("must be at least min_instances")
        return most


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

    @property
    def room(self) -> int:
        """How many invocations it may have at once.

        An async endpoint may have as many as its largest fleet can run: it queues them, and grows by what it
        sees in its queue. What waits beyond that waits here, where owners take turns.
        """
        if self.spec.kind is EndpointKind.ASYNC:
            instances = self.spec.max_instances or 1
        else:
            instances = max(self.instances, 1 if self.spec.min_instances == 0 else 0)
        return instances * self.spec.concurrency

    def evolved(self, now: datetime, **changes: Any) -> Self:
        """The endpoint with changes; `changed_at` moves with the state."""
        if changes.get("state", self.state) != self.state:
            changes["changed_at"] = now
        return self.model_copy(update=changes)
