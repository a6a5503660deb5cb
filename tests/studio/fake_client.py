"""A control plane made of dictionaries, behind the methods of `Client` that the studio uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

from cloudbrush.domain import image_file
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.endpoint import THIS_MACHINE, Endpoint, EndpointSpec, EndpointState
from cloudbrush.domain.errors import EndpointNotReady, NotFound
from cloudbrush.domain.generation import Generation
from cloudbrush.domain.health import Health
from cloudbrush.domain.image_file import Picture
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobList, JobState
from tests import builders
from tests.builders import START

PNG = b"\x89PNG of image "


def endpoint(name: str, state: EndpointState = EndpointState.IN_SERVICE) -> Endpoint:
    """An endpoint in a state since the beginning of time."""
    return Endpoint(spec=EndpointSpec(name=name), state=state, created_at=START, changed_at=START)


class FakeClient:
    """Jobs go on only when a test says what happens to them."""

    def __init__(self) -> None:
        self.providers: tuple[str, ...] = ("local",)
        self.assets = [builders.checkpoint("pocket")]
        self.deployed = [endpoint("pocket"), endpoint(THIS_MACHINE)]
        self.stored: dict[str, Job] = {}
        self.happened: dict[str, list[JobEvent]] = {}
        self.pictures: dict[str, bytes] = {}
        self.listing_calls: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def models(self, kind: AssetKind | None = None) -> list[ModelAsset]:
        return [asset for asset in self.assets if kind in (None, asset.kind)]

    async def endpoints(self) -> list[Endpoint]:
        return list(self.deployed)

    async def health(self) -> Health:
        return Health(providers=self.providers)

    async def deploy(self, spec: EndpointSpec) -> Endpoint:
        self.deployed.append(Endpoint(spec=spec, created_at=START, changed_at=START))
        return self.deployed[-1]

    async def delete_endpoint(self, name: str) -> None:
        self.deployed = [endpoint for endpoint in self.deployed if endpoint.name != name]

    async def submit(
        self, generation: Generation, *, endpoint: str | None = None, idempotency_key: str | None = None
    ) -> Job:
        place = next(found for found in self.deployed if found.name == (endpoint or THIS_MACHINE))
        if place.state is not EndpointState.IN_SERVICE:
            raise EndpointNotReady(f"endpoint {place.name!r} is {place.state}", hint="Choose another.")
        assert idempotency_key
        complete = generation.completed(
            checkpoint="pocket", size=(128, 128), seed=7, variation_seed=8, vae=None
        )
        return await self.add(builders.job(endpoint=place.name, generation=complete))

    async def add(self, job: Job) -> Job:
        """Store a job as if someone had submitted it."""
        age = timedelta(seconds=len(self.stored))
        self.stored[job.id] = job = job.model_copy(update={"created_at": START + age})
        self.happened[job.id] = []
        await self.tell(job.id, EventKind.QUEUED)
        return job

    async def job(self, job_id: str) -> Job:
        if job_id not in self.stored:
            raise NotFound(f"there is no job {job_id}", field="job_id")
        return self.stored[job_id]

    async def jobs(self, *, limit: int = 10, cursor: str | None = None, **filters: Any) -> JobList:
        self.pictures: dict[str, bytes] = {}
        self.listing_calls.append({"limit": limit, **filters})
        newest = sorted(self.stored.values(), key=lambda job: job.created_at, reverse=True)
        start = int(cursor or 0)
        more = str(start + limit) if start + limit < len(newest) else None
        return JobList(jobs=tuple(newest[start : start + limit]), cursor=more)

    async def cancel(self, job_id: str) -> Job:
        await self.end(job_id, JobState.CANCELLED)
        return self.stored[job_id]

    async def delete(self, job_id: str) -> None:
        await self.job(job_id)
        del self.stored[job_id]

    async def add_picture(self, data: bytes) -> Picture:
        picture = image_file.describe(data)
        self.pictures[picture.id] = data
        return picture

    async def picture(self, picture_id: str) -> bytes:
        if picture_id not in self.pictures:
            raise NotFound(f"there is no picture {picture_id}", field="id")
        return self.pictures[picture_id]

    async def image(self, job_id: str, index: int) -> bytes:
        return PNG + str(index).encode()

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent]:
        seq = after
        while True:
            for event in self.happened[job_id][seq:]:
                seq = event.seq
                yield event
                if event.kind is EventKind.FINISHED:
                    return
            async with self._news:
                if len(self.happened[job_id]) == seq:
                    await self._news.wait()

    async def tell(self, job_id: str, kind: EventKind, **data: Any) -> None:
        """Let an event happen."""
        events = self.happened[job_id]
        events.append(JobEvent(job_id=job_id, seq=len(events) + 1, kind=kind, at=START, data=data))
        async with self._news:
            self._news.notify_all()

    async def start(self, job_id: str) -> None:
        """Let a worker claim the job."""
        self.stored[job_id] = self.stored[job_id].claimed(START, START)
        await self.tell(job_id, EventKind.STARTED, attempt=self.stored[job_id].epoch)

    async def end(self, job_id: str, state: JobState, **changes: Any) -> None:
        """Let the job end."""
        finished = START + timedelta(seconds=2.5)
        self.stored[job_id] = self.stored[job_id].ended(state, finished, **changes)
        await self.tell(job_id, EventKind.FINISHED, state=state.value)

    async def paint(self, job_id: str) -> None:
        """Let the job's one image be painted and the job succeed."""
        image = builders.image(job_id)
        await self.tell(job_id, EventKind.IMAGE, **image.model_dump())
        await self.end(job_id, JobState.SUCCEEDED, images=(image,))
