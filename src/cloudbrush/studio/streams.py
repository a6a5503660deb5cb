"""Event streams shared between pages: one per job, however many pages look at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from cloudbrush.client import Client
from cloudbrush.domain.job import EventKind, JobEvent


class Streams:
    """The streams that are open now; a stream is open for as long as somebody reads it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: dict[str, _Stream] = {}

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent]:
        """What happens to the job, as `Client.events`; a slow reader gets only the latest progress."""
        stream = self._open.get(job_id)
        if stream is None or stream.ended:
            stream = self._open[job_id] = _Stream(self._client, job_id)
        stream.readers += 1
        seq = after
        try:
            while True:
                news = stream.news
                for event in stream.since(seq):
                    seq = event.seq
                    yield event
                    if event.kind is EventKind.FINISHED:
                        return
                if stream.ended:
                    stream.task.result()  # raises what ended it
                    return
                await news.wait()
        finally:
            stream.readers -= 1
            if not stream.readers:
                stream.task.cancel()
                if self._open.get(job_id) is stream:
                    del self._open[job_id]


class _Stream:
    """What one job's stream has said so far."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.readers = 0
        self.news = asyncio.Event()  # a new one each time something is said
        self._said: list[JobEvent] = []
        self.task = asyncio.create_task(self._listen(client, job_id))
        self.task.add_done_callback(self._end)

    @property
    def ended(self) -> bool:
        return self.task.done()

    def since(self, seq: int) -> list[JobEvent]:
        return [event for event in self._said if event.seq > seq]

    async def _listen(self, client: Client, job_id: str) -> None:
        async for event in client.events(job_id):
            if event.kind is EventKind.PROGRESS:
                self._said = [said for said in self._said if said.kind is not EventKind.PROGRESS]
            self._said.append(event)
            self._ring()

    def _end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen: readers that are still there raise it
        self._ring()

    def _ring(self) -> None:
        rung, self.news = self.news, asyncio.Event()
        rung.set()
