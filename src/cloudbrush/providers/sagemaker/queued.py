"""Invocations of asynchronous endpoints: asked for in one call, followed to their end, found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cloudbrush.domain.errors import WorkerLost
from cloudbrush.domain.invocation import (
    Accepted,
    Delivery,
    Finished,
    Heartbeat,
    Invocation,
    WorkerEvent,
    temporary_prefix,
)
from cloudbrush.providers.sagemaker.calls import Calls
from cloudbrush.providers.sagemaker.hearing import FIRST_LOOK, Hearing
from cloudbrush.providers.sagemaker.notices import Mailbox, Notice, Notices
from cloudbrush.providers.sagemaker.outcomes import Handle, Outcomes, inference_id
from cloudbrush.providers.sagemaker.patience import patiently
from cloudbrush.providers.sagemaker.place import Place

LARGEST_INLINE = 128_000  # bytes of a request that needs no object in S3
SHORTEST_WAIT, LONGEST_WAIT = 60, 21_600  # seconds in the queue that SageMaker can be asked for
LONGEST_RUN = 3600  # seconds
TICK = 1.0  # seconds between looks at the clock


@dataclass(frozen=True)
class Clock:
    """Time in seconds, and how often it is looked at."""

    now: Callable[[], float]
    tick: float = TICK


class Queued:
    """Asks for invocations, and tells what becomes of them."""

    def __init__(
        self, calls: Calls, place: Place, notices: Notices, is_watched: Callable[[str], bool], clock: Clock
    ) -> None:
        self._calls = calls
        self._place = place
        self._notices = notices
        self._outcomes = Outcomes(calls, place)
        self._is_watched = is_watched
        self._clock = clock

    async def invoke(self, endpoint: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """See `Provider.invoke`."""
        asked = invocation.model_copy(update={"delivery": Delivery.OBJECT})
        with self._notices.expecting(inference_id(asked.job_id, asked.epoch)) as mailbox:
            handle: Handle | None = None
            async for handle in patiently(lambda: self._ask(endpoint, asked)):
                if handle is None:
                    yield Heartbeat()
            assert handle is not None, "patience ends with an answer or an error"
            yield Accepted(handle=handle.model_dump_json())
            async for event in self._follow(handle, mailbox, FIRST_LOOK):
                yield event

    async def resume(self, kept: str) -> AsyncGenerator[WorkerEvent]:
        """See `LastingProvider.resume`. Its notice may have come and gone: the first look is at once."""
        try:
            handle = Handle.model_validate_json(kept)
        except ValidationError as error:
            raise WorkerLost("the attempt cannot be found again") from error
        with self._notices.expecting(handle.inference_id) as mailbox:
            async for event in self._follow(handle, mailbox, 0.0):
                yield event

    async def _ask(self, endpoint: str, invocation: Invocation) -> Handle:
        """One call, or two when the request is large."""
        body = invocation.model_dump_json().encode()
        payload: dict[str, Any] = {"Body": body}
        if len(body) > LARGEST_INLINE:
            key = f"{temporary_prefix(invocation.job_id, invocation.epoch)}/input.json"
            await self._calls.call("s3", "put_object", **self._place.object(key), Body=body)
            payload = {"InputLocation": self._place.url(key)}
        answer = await self._calls.call(
            "sagemaker-runtime",
            "invoke_endpoint_async",
            EndpointName=endpoint,
            ContentType="application/json",
            InferenceId=inference_id(invocation.job_id, invocation.epoch),
            RequestTTLSeconds=min(max(invocation.wait_limit, SHORTEST_WAIT), LONGEST_WAIT),
            InvocationTimeoutSeconds=min(invocation.run_limit, LONGEST_RUN),
            **payload,
        )
        return Handle(
            endpoint=endpoint,
            job_id=invocation.job_id,
            epoch=invocation.epoch,
            output=answer["OutputLocation"],
            failure=answer["FailureLocation"],
        )

    async def _follow(
        self, handle: Handle, mailbox: Mailbox, first_look: float
    ) -> AsyncGenerator[WorkerEvent]:
        """Wait to be told how it ended, and look now and then in case nobody tells."""
        heard = Hearing(self._clock.now(), first_look)
        while True:
            notice = await _next_within(mailbox, self._clock.tick)
            now = self._clock.now()
            heard.hear(notice, now)
            if heard.is_time_to_look(now):
                if ended := await self._outcomes.end(handle, heard.notice, heard.looks):
                    for image in heard.new_images(ended.images if isinstance(ended, Finished) else ()):
                        yield image
                    yield ended
                    return
                heard.saw_nothing(now)
            elif heard.is_time_for_report(now) and self._is_watched(handle.job_id):
                for event in heard.news(await self._outcomes.report(handle), now):
                    yield event
            if heard.is_silent_too_long(now):
                yield Heartbeat()


async def _next_within(mailbox: Mailbox, seconds: float) -> Notice | None:
    try:
        async with asyncio.timeout(seconds):
            return await mailbox.get()
    except TimeoutError:
        return None
