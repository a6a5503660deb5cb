"""/jobs: submit, list, look, cancel, delete, follow, fetch images."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AwareDatetime, BaseModel, ConfigDict

from cloudbrush.api.asking import Owner, Plane
from cloudbrush.control import jobs as control
from cloudbrush.control.submit import submit
from cloudbrush.domain.generation import AnyGeneration
from cloudbrush.domain.job import Job, JobList, JobState
from cloudbrush.stores.base import JobFilter

router = APIRouter(prefix="/jobs", tags=["jobs"])
JobId = Annotated[str, Path(max_length=64, description="the Inference ID")]
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "The PNG as it was painted, infotext inside."}
}


class Submission(BaseModel):
    """What to paint and where; no endpoint means this machine."""

    model_config = ConfigDict(extra="forbid")

    generation: AnyGeneration
    endpoint: Annotated[str, Query(max_length=63)] | None = None


class _Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: list[JobState] | None = None
    task: str | None = None
    endpoint: str | None = None
    checkpoint: str | None = None
    created_from: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    limit: Annotated[int, Query(ge=1, le=100)] = 10
    cursor: Annotated[str, Query(max_length=64)] | None = None


@router.post("", status_code=202)
def submit_job(
    submission: Submission,
    plane: Plane,
    owner: Owner,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Job:
    """Queue a generation; the job is on disk when this answers."""
    return submit(
        plane,
        submission.generation,
        owner=owner,
        endpoint=submission.endpoint,
        idempotency_key=idempotency_key,
    )


@router.get("")
def list_jobs(plane: Plane, owner: Owner, filters: Annotated[_Filters, Query()]) -> JobList:
    """Jobs, newest first; pass `cursor` on for the next page."""
    which = JobFilter(
        states=filters.state,
        task=filters.task,
        endpoint=filters.endpoint,
        checkpoint=filters.checkpoint,
        created_from=filters.created_from,
        created_before=filters.created_before,
    )
    return control.find(plane, which, owner=owner, limit=filters.limit, cursor=filters.cursor)


@router.get("/{job_id}")
def get_job(job_id: JobId, plane: Plane, owner: Owner) -> Job:
    """The job as it is now."""
    return control.get(plane, job_id, owner=owner)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: JobId, plane: Plane, owner: Owner) -> Job:
    """Call the job off at any state; a finished one stays as it is."""
    return control.cancel(plane, job_id, owner=owner)


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: JobId, plane: Plane, owner: Owner) -> None:
    """Forget a finished job and its images."""
    control.delete(plane, job_id, owner=owner)


def _own_job(job_id: JobId, plane: Plane, owner: Owner) -> Job:
    """Refuses a stream before it begins; after its first byte the status cannot change."""
    return control.get(plane, job_id, owner=owner)


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def follow_job(
    job: Annotated[Job, Depends(_own_job)],
    plane: Plane,
    last_event_id: Annotated[int, Header(ge=0, le=2**31)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """What happens to the job, as it happens, until it is finished; resumes after `Last-Event-ID`."""
    async with aclosing(control.events(plane, job.id, last_event_id)) as events:
        async for event in events:
            if event is None:
                yield ServerSentEvent(comment="waiting")
            else:
                yield ServerSentEvent(data=event, event=event.kind.value, id=str(event.seq))


@router.get("/{job_id}/images/{index}", response_class=Response, responses=PNG)
def get_image(
    job_id: JobId, index: Annotated[int, Path(ge=0, le=10_000)], plane: Plane, owner: Owner
) -> Response:
    """One image of the job."""
    png = control.image(plane, job_id, index, owner=owner)
    return Response(png, media_type="image/png", headers={"X-Content-Type-Options": "nosniff"})
