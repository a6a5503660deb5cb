"""What SageMaker announces about asynchronous invocations, heard from one queue by one listener.

The messages: "Check prediction results" of the developer guide. One may come twice, late, or not at all.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from cloudbrush.domain.errors import CloudbrushError, Unavailable
from cloudbrush.providers.sagemaker.calls import Calls

log = structlog.get_logger()
LONG_POLL = 20  # seconds a receive may wait at SQS; the longest allowed
PAUSE = 5.0  # seconds before the next try when AWS does not answer
LONG_PAUSE = 60.0  # seconds when it refuses; results are found by looking meanwhile
OLD = 3600.0  # seconds after which a message that nobody here wants is deleted


@dataclass(frozen=True)
class Notice:
    """An invocation has ended; the reason is None when it succeeded."""

    inference_id: str
    failure_reason: str | None


Mailbox = asyncio.Queue[Notice]
Settle = Callable[[str, int], Awaitable[bool]]
"""Told job id and epoch of an attempt that nobody follows: whether it is over for good."""


class Notices:
    """Brings each notice to whoever expects it."""

    def __init__(self, calls: Calls, queue_url: str, settle: Settle) -> None:
        self._calls = calls
        self._queue_url = queue_url
        self._settle = settle
        self._expected: dict[str, Mailbox] = {}  # by inference id

    @contextmanager
    def expecting(self, inference_id: str) -> Iterator[Mailbox]:
        """A mailbox for the notices of one invocation; open it before the invocation is made."""
        mailbox = self._expected[inference_id] = asyncio.Queue()
        try:
            yield mailbox
        finally:
            if self._expected.get(inference_id) is mailbox:
                del self._expected[inference_id]

    async def listen(self) -> None:
        """Listen until cancelled. What goes wrong is logged; no message is lost by it."""
        while True:
            try:
                await self._receive()
            except Unavailable as error:
                log.warning("the queue of notices does not answer", reason=error.detail)
                await asyncio.sleep(PAUSE)
            except Exception as error:
                detail = error.detail if isinstance(error, CloudbrushError) else repr(error)
                log.error("notices cannot be heard; results are looked for instead", reason=detail)
                await asyncio.sleep(LONG_PAUSE)

    async def _receive(self) -> None:
        answer = await self._calls.call(
            "sqs",
            "receive_message",
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=LONG_POLL,
            AttributeNames=["SentTimestamp"],
        )
        done = [message for message in answer.get("Messages", ()) if await self._is_done(message)]
        if done:
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(done)
            ]
            await self._calls.call("sqs", "delete_message_batch", QueueUrl=self._queue_url, Entries=entries)

    async def _is_done(self, message: dict[str, Any]) -> bool:
        """Deliver one message; whether it may be deleted.

        One that is not ours is left to another control plane on the same queue, or to the dead-letter queue.
        """
        notice = read(message["Body"])
        age = time.time() - int(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
        if notice is None:
            log.warning("a message that is no notice", body=message["Body"][:200])
            return age > OLD
        if mailbox := self._expected.get(notice.inference_id):
            mailbox.put_nowait(notice)
            return True
        job_id, _, epoch = notice.inference_id.rpartition(".")
        is_over = epoch.isdecimal() and await self._settle(job_id, int(epoch))
        return is_over or age > OLD


def read(body: str) -> Notice | None:
    """The notice in a message of the queue; None if there is none in it."""
    try:
        told = json.loads(body)
        if "Message" in told:  # as SNS wraps it
            told = json.loads(told["Message"])
        reason = None if told["invocationStatus"] == "Completed" else told.get("failureReason", "no reason")
        return Notice(str(told["inferenceId"]), reason)
    except (ValueError, TypeError, KeyError):
        return None
