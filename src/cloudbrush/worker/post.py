"""What worker and control plane leave for each other in the blob store, where they cannot hear each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog

from cloudbrush.domain.errors import Cancelled, CloudbrushError, NotFound, Unavailable
from cloudbrush.domain.invocation import (
    Delivery,
    ImagePainted,
    Invocation,
    Progress,
    Report,
    WorkerEvent,
    report_key,
    stop_key,
)
from cloudbrush.stores.blobs import Blobs

log = structlog.get_logger()
LOOK_AGAIN = 1.0  # seconds between looks whether the attempt was called off
REPORT_INTERVAL = 1.0  # seconds between reports; steps in between are left out


class Post:
    """The letters of one attempt: a stop that may come in, and reports that go out."""

    def __init__(self, blobs: Blobs, invocation: Invocation) -> None:
        self._blobs = blobs
        self._clock = asyncio.get_running_loop().time
        self._invocation = invocation
        self._report_key = report_key(invocation.job_id, invocation.epoch)
        self._reports = invocation.delivery is Delivery.OBJECT
        self._report = Report()
        self._reported_at = float("-inf")

    async def until_stopped(self, events: AsyncGenerator[WorkerEvent]) -> AsyncGenerator[WorkerEvent]:
        """The events, until they end or the attempt is called off; then it raises `Cancelled`."""
        async with aclosing(events):
            if await self._is_stopped():
                raise called_off()
            stopped = asyncio.create_task(self._stopped())
            try:
                while True:
                    upcoming = asyncio.ensure_future(anext(events))
                    await asyncio.wait({upcoming, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    if not upcoming.done():
                        await _cancelled(upcoming)
                        raise called_off()
                    try:
                        yield upcoming.result()
                    except StopAsyncIteration:
                        return
            finally:
                stopped.cancel()

    async def report(self, event: WorkerEvent) -> None:
        """Keep the latest step and the images so far where the control plane can look, now and then."""
        match event:
            case Progress():
                self._report = self._report.model_copy(update={"progress": event})
            case ImagePainted(image=image):
                self._report = self._report.model_copy(update={"images": (*self._report.images, image)})
            case _:
                return
        if self._reports and self._clock() - self._reported_at >= REPORT_INTERVAL:
            self._reported_at = self._clock()
            try:
                await asyncio.to_thread(self._put_report)
            except CloudbrushError as error:  # a report is a courtesy
                log.warning("not reported", key=self._report_key, reason=error.detail)

    def _put_report(self) -> None:
        self._blobs.put(self._report_key, self._report.model_dump_json().encode(), replace=True)

    async def _stopped(self) -> None:
        while not await self._is_stopped():
            await asyncio.sleep(LOOK_AGAIN)  # a blob store cannot ring

    async def _is_stopped(self) -> bool:
        return await asyncio.to_thread(is_stopped, self._blobs, self._invocation)


def is_stopped(blobs: Blobs, invocation: Invocation) -> bool:
    """Whether the attempt was called off; a store that does not answer says no."""
    with suppress(NotFound, Unavailable):
        blobs.get(stop_key(invocation.job_id, invocation.epoch))
        return True
    return False


def called_off() -> Cancelled:
    """What ends an attempt then."""
    return Cancelled("the attempt was called off")


async def _cancelled(task: asyncio.Future[WorkerEvent]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await task
