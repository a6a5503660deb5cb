"""A job: one generation asked for by one person, and everything that happened to it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from cloudbrush.domain.errors import Conflict
from cloudbrush.domain.generation import AnyGeneration
from cloudbrush.domain.invocation import ImageResult

MAX_ATTEMPTS = 3


class JobState(StrEnum):
    """Where a job is in its life. Arrows between the states: `MOVES`; drawn in docs/job-states.md."""

    QUEUED = "queued"  # accepted and on disk, waiting for a worker
    RUNNING = "running"  # claimed under a lease; a worker paints it
    SUCCEEDED = "succeeded"  # its one set of images is committed
    FAILED = "failed"  # it cannot be painted, or three attempts died
    CANCELLED = "cancelled"  # its owner called it off
    EXPIRED = "expired"  # it waited in the queue longer than allowed
    TIMED_OUT = "timed_out"  # it ran longer than allowed

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return not MOVES[self]


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: frozenset(
        {
            JobState.QUEUED,  # the lease was lost or given back
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.EXPIRED,  # in a queue of its endpoint's own
            JobState.TIMED_OUT,
        }
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
    JobState.TIMED_OUT: frozenset(),
}


class Problem(BaseModel):
    """Why a job or one of its attempts ended badly, in the form every error has."""

    model_config = ConfigDict(frozen=True)

    code: str
    detail: str
    field: str | None = None
    hint: str | None = None


class Job(BaseModel):
    """One generation with its owner, state, attempts and results. Frozen: every change is a new value."""

    model_config = ConfigDict(frozen=True)

    id: str  # UUIDv7, shown to people as the Inference ID
    owner: str
    endpoint: str
    generation: AnyGeneration
    state: JobState = JobState.QUEUED
    created_at: datetime
    started_at: datetime | None = None  # of the latest attempt
    finished_at: datetime | None = None
    epoch: int = 0  # counts claims; results of an older epoch are refused
    lease_until: datetime | None = None
    handle: str | None = Field(default=None, exclude=True, repr=False)  # of the attempt, at its provider
    lost_attempts: tuple[Problem, ...] = ()  # one per attempt whose worker died
    problem: Problem | None = None
    images: tuple[ImageResult, ...] = ()
    version: int = 0  # compare-and-set guard of the store

    def _moved(self, state: JobState, **changes: Any) -> Self:
        if state not in MOVES[self.state]:
            raise Conflict(f"a job that is {self.state} cannot become {state}")
        return self.model_copy(update={"state": state, "handle": None, **changes})

    def claimed(self, now: datetime, lease_until: datetime) -> Self:
        """The job as a new attempt begins."""
        return self._moved(
            JobState.RUNNING, started_at=now, lease_until=lease_until, epoch=self.epoch + 1, images=()
        )

    def released(self) -> Self:
        """The job back in the queue through no fault of its own, such as a restart of the control plane."""
        return self._moved(JobState.QUEUED, lease_until=None, started_at=None)

    def attempt_lost(self, now: datetime, problem: Problem) -> Self:
        """The job after its worker died: queued again, or failed when that was the last attempt allowed."""
        lost = (*self.lost_attempts, problem)
        if len(lost) < MAX_ATTEMPTS:
            return self.released().model_copy(update={"lost_attempts": lost})
        reasons = "; ".join(f"attempt {n}: {reason.detail}" for n, reason in enumerate(lost, 1))
        gave_up = Problem(
            code="attempts_exhausted",
            detail=f"gave up after {MAX_ATTEMPTS} attempts: {reasons}",
            hint="Try a smaller size or batch, or another endpoint.",
        )
        return self.ended(JobState.FAILED, now, problem=gave_up).model_copy(update={"lost_attempts": lost})

    def succeeded(self, now: datetime, images: tuple[ImageResult, ...]) -> Self:
        """The job with its one set of images."""
        return self.ended(JobState.SUCCEEDED, now, images=images)

    def ended(self, state: JobState, now: datetime, **changes: Any) -> Self:
        """The job in a terminal state."""
        return self._moved(state, finished_at=now, lease_until=None, **changes)


class EventKind(StrEnum):
    """What can happen to a job, in the words of its event stream."""

    QUEUED = "queued"  # accepted, or back in the queue after an attempt was lost
    STARTED = "started"  # an attempt began
    PROGRESS = "progress"  # a step was taken; only the latest is kept
    IMAGE = "image"  # one image is painted and stored
    FINISHED = "finished"  # a terminal state was reached; nothing follows


class JobEvent(BaseModel):
    """Something that happened to a job; `seq` grows by at least one and is the Last-Event-ID."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    seq: int
    kind: EventKind
    at: datetime
    data: dict[str, Any] = {}


class JobList(BaseModel):
    """A page of jobs, newest first; `cursor` continues it, None at the end."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[Job, ...]
    cursor: str | None = None
