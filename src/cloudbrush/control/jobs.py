"""Looking at jobs, calling them off, forgetting them. Another owner's job is as if it were not there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
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
        if ended := end(plane, job.ended(JobState.CANCELLED, plane.now())):
            return ended
        # It moved on in between: look at it as it is now.


def end(plane: ControlPlane, job: Job) -> Job | None:
    """Store a job that reached a terminal state, and tell; None when it moved on or went away meanwhile."""
    problem = job.problem.model_dump() if job.problem else None
    happening = (EventKind.FINISHED, {"state": job.state.value, "problem": problem})
    try:
        ended = plane.stores.jobs.change(job, happening, at=plane.now())
    except (Stale, NotFound):
        return None
    plane.bells.ring(job.id)
    plane.bells.ring(DISPATCH)
    return ended


def drop_leftovers(plane: ControlPlane, job_id: str) -> None:
    """Delete the images nobody refers to once the job has ended or is gone."""
    kept: frozenset[str] = frozenset()
    with suppress(NotFound):
        job = plane.stores.jobs.get(job_id)
        if not job.state.is_terminal:
            return
        kept = frozenset(image.key for image in job.images)
    plane.stores.blobs.delete(f"jobs/{job_id}", keep=kept)


def settle(plane: ControlPlane, job_id: str, epoch: int) -> bool:
    """Whether an attempt that nobody follows is over for good; what it left behind is dropped then.

    A job that is not known here may be another control plane's.
    """
    try:
        job = plane.stores.jobs.get(job_id)
    except NotFound:
        return False
    if job.state is JobState.RUNNING and job.epoch == epoch:
        return False
    if job.state.is_terminal:
        drop_leftovers(plane, job_id)
    else:
        plane.stores.blobs.delete(f"jobs/{job_id}/{epoch}")
    return True


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


async def events(plane: ControlPlane, job_id: str, after: int) -> AsyncGenerator[JobEvent | None]:
    """What happens to the job from number `after` on, until it is finished; None as a sign of life."""
    seq = after
    with plane.bells.listening(job_id) as bell:
        while True:
            over = await to_thread.run_sync(_is_over, plane, job_id)  # before the look, which then sees all
            for event in await to_thread.run_sync(plane.stores.events.after, job_id, seq):
                seq = event.seq
                yield event
            if over:
                return
            if not await bell.wait(LOOK_AGAIN):
                yield None


def _is_over(plane: ControlPlane, job_id: str) -> bool:
    try:
        return plane.stores.jobs.get(job_id).state.is_terminal
    except NotFound:
        return True
