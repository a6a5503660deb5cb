"""The seams of memory, one small protocol per noun: frozen domain objects in and out.

A change is a compare-and-set on the object's version: who comes second gets `Stale` and reads again. Every
method is one transaction, on disk when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.endpoint import Endpoint
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobList, JobState
from cloudbrush.stores.blobs import Blobs, Entry

__all__ = ["Blobs", "Entry"]  # part of what this file speaks of, though made elsewhere

Happening = tuple[EventKind, dict[str, Any]]
"""An event before the store gives it its number and time."""


Choose = Callable[[Sequence[Job]], Job | None]
"""Picks from each owner's oldest queued job, owners in the order they were last served."""


@dataclass(frozen=True)
class IdempotencyKey:
    """A client's promise that requests under one key are the same request."""

    key: str
    digest: str  # of the request


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    owner: str | None = None
    states: Collection[JobState] | None = None
    task: str | None = None
    endpoint: str | None = None
    checkpoint: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Jobs(Protocol):
    """Jobs and their histories."""

    def add(self, job: Job, happening: Happening, idempotency: IdempotencyKey | None = None) -> Job:
        """Store a new job and its first event, or return the earlier job of the same key and digest.

        Raises `IdempotencyMismatch` when the key was used with another digest.
        """

    def get(self, job_id: str) -> Job:
        """The job as it is now. Raises `NotFound`."""

    def find(self, which: JobFilter, limit: int, cursor: str | None = None) -> JobList:
        """Jobs newest first, at most `limit`, older than `cursor`."""

    def change(self, job: Job, *happenings: Happening, at: datetime) -> Job:
        """Replace the job if its version still holds, with what happened. Raises `Stale`, `NotFound`."""

    def delete(self, job_id: str) -> None:
        """Forget the job and its events; nothing happens when it is gone already."""


class Requests(Protocol):
    """What was asked under an idempotency key."""

    def earlier(self, owner: str, idempotency: IdempotencyKey) -> Job | None:
        """The job the owner's key made. Raises `IdempotencyMismatch` when that was another request."""


class Events(Protocol):
    """What happened to a job, in order."""

    def after(self, job_id: str, seq: int) -> list[JobEvent]:
        """The job's events numbered above `seq`."""

    def append(self, job_id: str, epoch: int, happening: Happening, at: datetime) -> bool:
        """Add an event of a running attempt; False, and nothing stored, when that attempt no longer counts.

        Of progress only the latest is kept.
        """


class Queue(Protocol):
    """Who is served next, and who holds what for how long."""

    def claim(self, endpoint: str, now: datetime, lease_until: datetime, choose: Choose) -> Job | None:
        """Lease one queued job of the endpoint; None when there is none, or none is chosen."""

    def renew(self, job_id: str, epoch: int, lease_until: datetime) -> bool:
        """Extend a lease; False when the attempt no longer counts."""

    def accept(self, job_id: str, epoch: int, handle: str) -> bool:
        """Remember by what the provider finds the attempt; False when the attempt no longer counts."""

    def running(self) -> list[Job]:
        """Every job that is running."""

    def stranded(self) -> list[Job]:
        """Unfinished jobs of endpoints that do not exist."""

    def overdue(self, now: datetime, queued_before: datetime) -> list[Job]:
        """Running jobs whose lease ran out, and queued ones created before `queued_before`."""


class Endpoints(Protocol):
    """Deployed endpoints."""

    def add(self, endpoint: Endpoint) -> Endpoint:
        """Store a new endpoint. Raises `Conflict` when the name is taken."""

    def get(self, name: str) -> Endpoint:
        """The endpoint as it is now. Raises `NotFound`."""

    def all(self) -> list[Endpoint]:
        """Every endpoint, newest first."""

    def change(self, endpoint: Endpoint) -> Endpoint:
        """Replace the endpoint if its version still holds. Raises `Stale`, `NotFound`."""

    def delete(self, name: str) -> None:
        """Forget the endpoint; nothing happens when it is gone already."""


@dataclass(frozen=True)
class AssetSource:
    """The file an asset was read from, and what tells that it changed since."""

    asset: ModelAsset
    path: Path | None  # None: it is in the cloud only
    modified: int = 0  # mtime, nanoseconds


class Assets(Protocol):
    """The catalogue of model files."""

    def put(self, source: AssetSource) -> None:
        """Store the asset, replacing one of the same kind and name."""

    def get(self, kind: AssetKind, name: str) -> ModelAsset:
        """The asset called `name`. Raises `NotFound`."""

    def all(self) -> list[AssetSource]:
        """Every asset with its file, by kind and name."""

    def delete(self, kind: AssetKind, name: str) -> None:
        """Forget the asset; nothing happens when it is gone already."""


@dataclass(frozen=True)
class Stores:
    """Everything the control plane remembers with."""

    jobs: Jobs
    requests: Requests
    events: Events
    queue: Queue
    endpoints: Endpoints
    assets: Assets
    blobs: Blobs
