"""Following jobs as they happen: events folded into what a page shows, the stale ones skipped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from cloudbrush.client import Client
from cloudbrush.domain.errors import CloudbrushError
from cloudbrush.domain.invocation import ImageResult
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobState
from cloudbrush.studio.streams import Streams

MOST_WATCHED = 20  # unfinished jobs of a list whose states are watched: the oldest, which are painted first
SIGN_OF_LIFE = 15.0  # seconds after which a silent watcher yields, so that Gradio notices a closed page


@dataclass(frozen=True)
class JobView:
    """A job as it is now: what is stored of it, and how far the attempt that runs has come."""

    job: Job
    step: int = 0  # over all batches, 0 before the first
    steps: int = 0
    preview: str | None = None  # small JPEG as a data URI
    images: tuple[ImageResult, ...] = ()

    @classmethod
    def of(cls, job: Job) -> Self:
        """The view of a job before anything more is heard of it."""
        return cls(job=job, images=job.images)

    def after(self, event: JobEvent) -> Self:
        """The view once `event` has happened; a new attempt starts from nothing."""
        state = state_after(event)
        if event.kind is EventKind.FINISHED:
            return replace(self, job=self.job.model_copy(update={"state": state}), preview=None)
        if state is not None:
            return self.of(self.job.model_copy(update={"state": state, "images": ()}))
        if event.kind is EventKind.PROGRESS:
            preview = event.data.get("preview") or self.preview
            return replace(self, step=event.data["step"], steps=event.data["steps"], preview=preview)
        painted = ImageResult.model_validate(event.data)
        known = tuple(image for image in self.images if image.index != painted.index)
        return replace(self, images=(*known, painted), preview=None)


def state_after(event: JobEvent) -> JobState | None:
    """The state an event puts its job into; None when it changes none."""
    match event.kind:
        case EventKind.QUEUED:
            return JobState.QUEUED
        case EventKind.STARTED:
            return JobState.RUNNING
        case EventKind.FINISHED:
            return JobState(event.data["state"])
        case _:
            return None


class Watcher:
    """One running watch of one page: woken by news, retired when the page begins another."""

    def __init__(self) -> None:
        self.retired = False
        self.selected = 0  # the image a person chose in the gallery
        self._bell = asyncio.Event()

    def wake(self) -> None:
        """Say that there is something to show."""
        self._bell.set()

    def select(self, index: int) -> None:
        """Say that a person chose an image."""
        self.selected = index
        self.wake()

    def retire(self) -> None:
        """End the watch at its next look."""
        self.retired = True
        self.wake()

    async def news(self, within: float) -> bool:
        """Wait for news; False when `within` seconds passed without."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), within)
        woken = self._bell.is_set()
        self._bell.clear()
        return woken


class Watches:
    """Which watch speaks for which page: an older one never overwrites what a newer one shows."""

    def __init__(self) -> None:
        self._speaking: dict[str | None, Watcher] = {}

    def speaking(self, page: str | None) -> Watcher | None:
        """The watcher of the page, if one is at work."""
        return self._speaking.get(page)

    @contextmanager
    def begin(self, page: str | None) -> Iterator[Watcher]:
        """A watcher for the page, which retires the one before."""
        watcher = Watcher()
        if before := self._speaking.get(page):
            before.retire()
        self._speaking[page] = watcher
        try:
            yield watcher
        finally:
            if self._speaking.get(page) is watcher:
                del self._speaking[page]


async def follow(
    client: Client, streams: Streams, job_id: str, watcher: Watcher
) -> AsyncGenerator[JobView | None]:
    """The job as it is, then as it changes, until it is finished; None as a sign of life."""
    view = JobView.of(await client.job(job_id))
    yield view
    if view.job.state.is_terminal:
        return

    async def listen() -> None:
        nonlocal view
        async for event in streams.events(job_id):
            view = view.after(event)
            watcher.wake()

    async with _listening([listen], watcher) as running:
        while not all(task.done() for task in running):
            woken = await watcher.news(SIGN_OF_LIFE)
            if watcher.retired:
                return
            yield view if woken else None
        running[0].result()  # raises what ended the listening early
    yield JobView.of(await client.job(job_id))


async def watch(
    streams: Streams, listed: Callable[[], Awaitable[list[Job]]], watcher: Watcher
) -> AsyncGenerator[list[Job] | None]:
    """A list of jobs, again whenever the state of one of them changes; None as a sign of life."""
    heard: dict[str, int] = {}  # the last event of each job that was looked at
    while not watcher.retired:
        jobs = await listed()
        yield jobs
        unfinished = [job for job in jobs if not job.state.is_terminal]
        if not unfinished:
            return
        changes = [partial(_change, streams, job, heard) for job in unfinished[-MOST_WATCHED:]]
        async with _listening(changes, watcher) as running:
            while not any(task.done() for task in running):
                await watcher.news(SIGN_OF_LIFE)
                if watcher.retired:
                    return
                yield None


async def _change(streams: Streams, job: Job, heard: dict[str, int]) -> None:
    """Return once the job leaves the state it was listed in."""
    first = job.id not in heard  # the first event of all only says that the job was accepted
    with suppress(CloudbrushError):  # gone or unreachable: the next list tells
        async for event in streams.events(job.id, heard.get(job.id, 0)):
            heard[job.id] = event.seq
            accepted, first = first, False
            if not accepted and state_after(event) not in (None, job.state):
                return


@asynccontextmanager
async def _listening(
    listeners: Iterable[Callable[[], Coroutine[None, None, None]]], watcher: Watcher
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The listeners at work, waking the watcher when one ends; none is left behind."""
    tasks = [asyncio.create_task(listener()) for listener in listeners]
    for task in tasks:
        task.add_done_callback(lambda _task: watcher.wake())
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
