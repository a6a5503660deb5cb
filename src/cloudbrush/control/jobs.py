"""Looking at jobs, calling them off, forgetting them. Another owner's job is as if it were not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from anyio import to_thread

from cloudbrush.control.bells import DISPATCH
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.errors import Conflict, NotFound, Stale
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobList, JobState
from cloudbrush.stores.base import JobFilter

LOOK_AGAIN = 15.0  # seconds; how stale a listener can get when another process changed the job


def get(plane: ControlPlane, job_id: str, *, owner: str) -> Job:
    """The owner's job. Raises `NotFound`."""
    job = plane.stores.jobs.get(job_id)
    if job.owner != owner:
        raise NotFound(f"there is no job {job_id}", field="id")
    return job


def find(
    plane: ControlPlane, which: JobFilter, *, owner: str, limit: int, cursor: str | None = None
) -> JobList:
    """The owner's jobs, newest first."""
    return plane.stores.jobs.find(replace(which, owner=owner), limit, cursor)


def cancel(plane: ControlPlane, job_id: str, *, owner: str) -> Job:
    """Call a job off: at once here, at its next step where it runs; a finished one stays as it is."""
    while True:
        job = get(plane, job_id, owner=owner)
        if job.state.is_terminal:
            return job
        cancelled = job.ended(JobState.CANCELLED, plane.now())
        try:
            stored = plane.stores.jobs.change(cancelled, finished(cancelled), at=plane.now())
        except Stale:
            continue  # it moved on in between; look at it as it is now
        plane.bells.ring(job_id)
        plane.bells.ring(DISPATCH)
        return stored


def delete(plane: ControlPlane, job_id: str, *, owner: str) -> None:
    """Forget a finished job, its events and images. Raises `Conflict` while it may still run."""
    job = get(plane, job_id, owner=owner)
    if not job.state.is_terminal:
        raise Conflict(f"job {job_id} is {job.state}", field="id", hint="Cancel it first.")
    plane.stores.jobs.delete(job_id)
    plane.stores.blobs.delete(f"jobs/{job_id}")


def image(plane: ControlPlane, job_id: str, index: int, *, owner: str) -> bytes:
    """One image of the owner's finished job, or one already painted of a running job. Raises `NotFound`."""
    job = get(plane, job_id, owner=owner)
    for found in job.images:
        if found.index == index:
            return plane.stores.blobs.get(found.key)
    for event in plane.stores.events.after(job_id, 0):
        if event.kind is EventKind.IMAGE and event.data["index"] == index and job.state is JobState.RUNNING:
            return plane.stores.blobs.get(event.data["key"])
    raise NotFound(f"job {job_id} has no image {index}", field="index")


async def events(plane: ControlPlane, job_id: str, after: int) -> AsyncIterator[JobEvent | None]:
    """What happens to the job from number `after` on, until it is finished; None as a sign of life."""
    seq = after
    with plane.bells.listening(job_id) as bell:
        while True:
            for event in await to_thread.run_sync(plane.stores.events.after, job_id, seq):
                seq = event.seq
                yield event
                if event.kind is EventKind.FINISHED:
                    return
            if not await bell.wait(LOOK_AGAIN):
                yield None
                await to_thread.run_sync(plane.stores.jobs.get, job_id)  # raises once it is deleted


def finished(job: Job) -> tuple[EventKind, dict[str, object]]:
    """The last event of a job that ended."""
    problem = job.problem.model_dump() if job.problem else None
    return EventKind.FINISHED, {"state": job.state.value, "problem": problem}
