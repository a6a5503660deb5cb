"""The queue of an asynchronous endpoint: first in, first out, so many at a time on each instance.

"Alarms and logs for tracking metrics from asynchronous endpoints" of the developer guide lists the metrics.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from cloudbrush.testing.sagemaker.clock import Clock, within
from cloudbrush.testing.sagemaker.delivery import AWS_ERRORS, Delivery, Outcome, Request
from cloudbrush.testing.sagemaker.errors import WorkerGone
from cloudbrush.testing.sagemaker.faults import Fault, Faults
from cloudbrush.testing.sagemaker.records import EndpointConfig
from cloudbrush.testing.sagemaker.worker import TIMED_OUT, Worker

COUNTED = (
    "RequestDownloadFailures",
    "ResponseUploadFailures",
    "NotificationFailures",
    "ExpiredRequests",
    "InvocationFailures",
    "InvocationsProcessed",
    "Invocation4XXErrors",
    "Invocation5XXErrors",
)
ATTEMPTS = 3  # how often an invocation is given to a worker if workers die under it; the guide does not say
SEE_LOGS = "See the SageMaker Endpoint logs in your account for more information."

Answer = TypeVar("Answer")


class Capacity(Protocol):
    """What a queue asks of its endpoint."""

    config: EndpointConfig

    def pick(self, at_most: int | None = None) -> Worker | None:
        """An instance that works on fewer invocations than `at_most`."""
        ...

    def instances(self) -> int:
        """How many there are."""
        ...


@dataclass(eq=False)
class _Waiting:
    request: Request
    attempts: int = 0
    expiry: asyncio.Task[None] | None = None


class Queue:
    """Accepted invocations until their outcome is delivered."""

    def __init__(self, capacity: Capacity, delivery: Delivery, clock: Clock, faults: Faults) -> None:
        self._capacity = capacity
        self._delivery = delivery
        self._clock = clock
        self._faults = faults
        self._waiting: deque[_Waiting] = deque()
        self._processing: dict[str, Request] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.counts: Counter[str] = Counter()

    def put(self, request: Request) -> None:
        """Accept an invocation."""
        waiting = _Waiting(request)
        self._waiting.append(waiting)
        self._let_expire(waiting)
        self.pump()

    def pump(self) -> None:
        """Give work to every instance that has room; to be called whenever there may be more room."""
        while self._waiting and not self._closed:
            worker = self._capacity.pick(self._capacity.config.concurrency)
            if worker is None:
                return
            waiting = self._waiting.popleft()
            worker.running += 1
            self._spawn(self._process(waiting, worker))

    def metrics(self) -> dict[str, float | None]:
        """CloudWatch's metrics now; None where the service would publish nothing."""
        backlog = len(self._waiting) + len(self._processing)
        instances = self._capacity.instances()
        oldest = min((entry.request.received_at for entry in self._waiting), default=None)
        return {
            "ApproximateBacklogSize": backlog,
            "ApproximateBacklogSizePerInstance": backlog / instances if instances else None,
            "HasBacklogWithoutCapacity": float(backlog > 0 and instances == 0),
            "ApproximateAgeOfOldestRequest": self._age(oldest),
            **{name: self.counts[name] for name in COUNTED},
        }

    async def close(self) -> None:
        """Forget everything, as an endpoint that is deleted does: no object, no message."""
        self._closed = True
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _age(self, oldest: datetime | None) -> float | None:
        return (self._clock.now() - oldest).total_seconds() if oldest else None

    def _let_expire(self, waiting: _Waiting) -> None:
        age = self._age(waiting.request.received_at) or 0.0
        waiting.expiry = self._spawn(self._expire(waiting, waiting.request.ttl - age))

    async def _expire(self, waiting: _Waiting, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            self.counts["ExpiredRequests"] += 1
            reason = f"ClientError: The request expired after {waiting.request.ttl:g} seconds in the queue."
            await self._end(waiting.request, Outcome(reason, content_type="text/plain"))

    async def _process(self, waiting: _Waiting, worker: Worker) -> None:
        """One attempt on one instance; an instance that dies under it gives it back to the queue."""
        request = waiting.request
        waiting.attempts += 1
        assert waiting.expiry is not None, "set when it was queued"
        waiting.expiry.cancel()
        self._processing[request.output] = request
        try:
            outcome = await self._attempt(request, worker)
        except WorkerGone as error:
            await worker.dies()  # or the next attempt would be given to it as well
            if waiting.attempts < ATTEMPTS:
                self._waiting.appendleft(waiting)
                self._let_expire(waiting)
                return
            outcome = Outcome(f"InternalServerError: {error}", content_type="text/plain")
        finally:
            worker.running -= 1
            del self._processing[request.output]
            asyncio.get_running_loop().call_soon(self.pump)
        await self._end(request, outcome)

    async def _attempt(self, request: Request, worker: Worker) -> Outcome:
        """What came of the worker's answer. Raises `WorkerGone`."""
        try:
            body = request.body if request.body is not None else await self._fetch(request)
        except AWS_ERRORS as error:
            self.counts["RequestDownloadFailures"] += 1
            reason = f"ClientError: Unable to download the request from {request.input_location}: {error}"
            return Outcome(reason, content_type="text/plain")
        answer = self._spawn(self._ask(request, body, worker))
        try:
            outcome = await within(self._clock, request.timeout, asyncio.shield(answer))
        except TimeoutError:
            if self._faults.take(Fault.OUTPUT_AFTER_TIMEOUT) is None:
                answer.cancel()
            else:
                self._spawn(self._write_late(request, answer))
            return Outcome(f"ClientError: {TIMED_OUT}", content_type="text/plain")
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if self._faults.take(Fault.INVOCATION_FAILS) is not None:
            return Outcome(f"ClientError: Received server error (500) from model. {SEE_LOGS}")
        return outcome

    async def _fetch(self, request: Request) -> bytes:
        assert request.input_location is not None, "either a body or where it is"
        return await self._delivery.fetch(request.input_location)

    async def _ask(self, request: Request, body: bytes, worker: Worker) -> Outcome:
        async with worker.invoked(body, request.headers) as response:
            content = await response.aread()
        reason = None
        if not response.is_success:
            whose = "client" if response.status_code < 500 else "server"
            self.counts[f"Invocation{response.status_code // 100}XXErrors"] += 1
            reason = f"ClientError: Received {whose} error ({response.status_code}) from model. {SEE_LOGS}"
        return Outcome(reason, content, response.headers.get("content-type", "application/octet-stream"))

    async def _write_late(self, request: Request, answer: asyncio.Task[Outcome]) -> None:
        with suppress(WorkerGone):
            await self._delivery.write(request, await answer, self.counts)

    async def _end(self, request: Request, outcome: Outcome) -> None:
        self.counts["InvocationFailures" if outcome.reason else "InvocationsProcessed"] += 1
        await self._delivery.deliver(request, outcome, self._capacity.config, self.counts)

    def _spawn(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
