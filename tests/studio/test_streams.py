"""One stream per job, however many read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cloudbrush.domain.errors import Unavailable
from cloudbrush.domain.job import EventKind, JobEvent
from cloudbrush.studio.streams import Streams
from tests import builders
from tests.studio.fake_client import FakeClient

SOON = 5.0  # seconds


class Counting(FakeClient):
    """Knows how many streams are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0
        self.opened = 0

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent]:
        self.open += 1
        self.opened += 1
        try:
            async for event in super().events(job_id, after):
                yield event
        finally:
            self.open -= 1


async def test_readers_share_a_stream_and_the_last_one_closes_it() -> None:
    client = Counting()
    streams = Streams(client)  # type: ignore[arg-type]
    job = await client.add(builders.job())
    readers = [streams.events(job.id) for _ in range(5)]
    async with asyncio.timeout(SOON):
        for reader in readers:
            assert (await anext(reader)).kind is EventKind.QUEUED
        assert client.opened == 1
        for reader in readers:
            await reader.aclose()
        while client.open:
            await asyncio.sleep(0)


async def test_every_reader_gets_everything_after_where_it_was() -> None:
    client = Counting()
    streams = Streams(client)  # type: ignore[arg-type]
    job = await client.add(builders.job())
    early = streams.events(job.id)
    await anext(early)
    await client.start(job.id)
    await client.paint(job.id)
    kinds = [EventKind.STARTED, EventKind.IMAGE, EventKind.FINISHED]
    async with asyncio.timeout(SOON):
        assert [event.kind async for event in early] == kinds
        assert [event.kind async for event in streams.events(job.id, after=1)] == kinds


async def test_a_slow_reader_gets_only_the_latest_progress() -> None:
    client = Counting()
    streams = Streams(client)  # type: ignore[arg-type]
    job = await client.add(builders.job())
    reader = streams.events(job.id)
    await anext(reader)
    for step in range(1, 21):
        await client.tell(job.id, EventKind.PROGRESS, step=step, steps=20)
    await client.start(job.id)
    await client.paint(job.id)
    async with asyncio.timeout(SOON):
        events = [event async for event in streams.events(job.id)]
    steps = [event.data["step"] for event in events if event.kind is EventKind.PROGRESS]
    assert steps == [20]
    await reader.aclose()


async def test_what_ends_a_stream_reaches_every_reader_and_the_next_one_tries_again() -> None:
    class Broken(FakeClient):
        async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent]:
            raise Unavailable("nothing answers")
            yield

    streams = Streams(Broken())  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await anext(streams.events("some job"))
