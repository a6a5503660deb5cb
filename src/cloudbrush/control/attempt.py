"""One attempt at one job: invoke a worker, note what it says, commit how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread

from cloudbrush.control import assets, resolve
from cloudbrush.control.jobs import drop_leftovers, end
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.endpoint import Endpoint, EndpointKind
from cloudbrush.domain.errors import (
    CloudbrushError,
    GenerationFailed,
    NotFound,
    RanTooLong,
    Stale,
    Unavailable,
    UnknownModel,
    WaitedTooLong,
    WorkerLost,
)
from cloudbrush.domain.invocation import (
    Accepted,
    AssetRef,
    Failed,
    Finished,
    Heartbeat,
    ImagePainted,
    Invocation,
    Progress,
    WorkerEvent,
)
from cloudbrush.domain.job import EventKind, Job, JobState, Problem
from cloudbrush.providers.base import LastingProvider

log = structlog.get_logger()
PROGRESS_INTERVAL = 0.1  # seconds; faster steps are left out, each stored event is a write to disk
STOP_LIMIT = 10.0  # seconds for telling a worker to stop
COMMIT_PAUSE = 1.0  # seconds between tries to commit while the database does not answer
ZERO = timedelta()
Result = TypeVar("Result")


class Attempt:
    """A running attempt, followed from here.

    `stop` ends the worker's part of it; what was won until then is still committed. `let_go` stops following
    and leaves the worker to it, where the provider keeps the attempt.
    """

    def __init__(self, plane: ControlPlane, endpoint: Endpoint, job: Job, threads: CapacityLimiter) -> None:
        """Begin at once, or follow again where the job has a handle.

        `ended` is done when nothing of the attempt goes on here.
        """
        self.job = job
        self._plane = plane
        self._endpoint = endpoint
        self._provider = plane.providers[endpoint.spec.provider]
        self._is_resumed = self._kept = job.handle is not None  # kept by the provider, whatever becomes of us
        self._announced: set[int] = set()  # images, by index
        self._let_go = False
        self._threads = threads
        self._clock = asyncio.get_running_loop().time
        self._progress_noted = self._renewed = self._clock()
        self._following = asyncio.create_task(self._follow(), name=f"follow {job.id}")
        self.ended = asyncio.create_task(self._run(), name=f"attempt {job.id}")

    def stop(self) -> None:
        """Hang up on the worker, which stops at its next step."""
        self._following.cancel()

    def let_go(self) -> bool:
        """Stop following an attempt that its provider keeps; whether it does."""
        self._let_go = self._kept
        return self._let_go and self._following.cancel()

    async def _run(self) -> None:
        try:
            await asyncio.wait({self._following})
            if self._let_go and self._following.cancelled():
                return
            if self._following.cancelled() or self._following.exception():
                await self._stop_worker()
            if not self._following.cancelled():
                await self._commit(self._outcome())
            await self._in_thread(drop_leftovers, self._plane, self.job.id)
        except Exception:
            # Never let one job end the dispatcher; its lease lapses and another attempt is made.
            log.exception("attempt broke", job=self.job.id, epoch=self.job.epoch)

    async def _stop_worker(self) -> None:
        """Where hanging up is not enough, tell a worker that did not say how it ended."""
        if isinstance(self._provider, LastingProvider):
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await self._provider.stop(self.job.id, self.job.epoch)
            except (CloudbrushError, TimeoutError) as error:  # its epoch fences what it may still bring
                log.warning("not stopped", job=self.job.id, epoch=self.job.epoch, reason=repr(error))

    def _outcome(self) -> Job:
        """The job as the attempt left it."""
        now = self._plane.now()
        try:
            return self._following.result()
        except (WaitedTooLong, RanTooLong) as error:
            state = JobState.EXPIRED if isinstance(error, WaitedTooLong) else JobState.TIMED_OUT
            return self.job.ended(state, now, problem=Problem(**error.as_dict()))
        except (WorkerLost, NotFound) as error:  # the process, or the whole endpoint, is gone
            return self.job.attempt_lost(now, Problem(**error.as_dict()))
        except Unavailable:
            return self.job.released()  # ours is the fault, not the job's
        except CloudbrushError as error:
            return self.job.ended(JobState.FAILED, now, problem=Problem(**error.as_dict()))

    async def _follow(self) -> Job:
        """Listen to the worker until it is over, but not for longer than allowed."""
        try:
            async with asyncio.timeout(self._time_left()) as over:
                return await self._listen(await self._events())
        except TimeoutError as error:
            if not over.expired():
                raise
            raise RanTooLong(
                f"it ran longer than the allowed {self._plane.limits.run.total_seconds() / 60:g} minutes",
                hint="Try fewer steps, a smaller size or batch, or a faster endpoint.",
            ) from error

    def _time_left(self) -> float:
        """Seconds until the attempt must be over.

        An async endpoint keeps the time of waiting and of running itself; it is only not trusted for ever.
        """
        limits = self._plane.limits
        whole = limits.run
        if self._endpoint.spec.kind is EndpointKind.ASYNC:
            whole += limits.queue + limits.lease
        since = self._plane.now() - self.job.started_at if self._is_resumed and self.job.started_at else ZERO
        return max(0.0, (whole - since).total_seconds())

    async def _events(self) -> AsyncGenerator[WorkerEvent]:
        if self.job.handle is not None and isinstance(self._provider, LastingProvider):
            mine = f"jobs/{self.job.id}/{self.job.epoch}/"
            history = await self._in_thread(self._plane.stores.events.after, self.job.id, 0)
            images = (event.data for event in history if event.kind is EventKind.IMAGE)
            self._announced = {image["index"] for image in images if image["key"].startswith(mine)}
            return self._provider.resume(self.job.handle)
        return self._provider.invoke(self._endpoint.name, await self._in_thread(self._invocation))

    async def _listen(self, told: AsyncGenerator[WorkerEvent]) -> Job:
        """Note what the worker says, and return the job as it ended."""
        silence = self._plane.limits.lease.total_seconds()
        async with aclosing(told) as events:
            try:
                async with asyncio.timeout(silence) as patience:
                    async for event in events:
                        if ended := await self._take(event):
                            return ended
                        # The loop's time, not the clock's: a machine that slept loses no worker.
                        patience.reschedule(self._clock() + silence)
            except TimeoutError as error:
                if not patience.expired():
                    raise
                raise WorkerLost("the worker was silent for too long") from error
        raise WorkerLost("the worker ended the conversation without a result")

    async def _take(self, event: WorkerEvent) -> Job | None:
        """Note one event; the job as it ended when it was the last."""
        await self._renew_lease()
        match event:
            case Accepted(handle=handle):
                accept = self._plane.stores.queue.accept
                self._kept = bool(await self._in_passing(accept, self.job.id, self.job.epoch, handle))
            case Finished(images=images):
                return self.job.succeeded(self._plane.now(), images)
            case Failed():
                problem = Problem(**event.model_dump(exclude={"kind"}))
                return self.job.ended(JobState.FAILED, self._plane.now(), problem=problem)
            case ImagePainted(image=image) if image.index not in self._announced:
                self._announced.add(image.index)
                await self._note(EventKind.IMAGE, image.model_dump(mode="json"))
            case Progress() if self._is_worth_noting(event):
                self._progress_noted = self._clock()
                await self._note(EventKind.PROGRESS, event.model_dump(exclude={"kind"}))
            case ImagePainted() | Progress() | Heartbeat():
                pass
        return None

    def _is_worth_noting(self, progress: Progress) -> bool:
        due = self._clock() - self._progress_noted > PROGRESS_INTERVAL
        return due or progress.preview is not None or progress.step == progress.steps

    async def _renew_lease(self) -> None:
        lease = self._plane.limits.lease
        if self._clock() - self._renewed > lease.total_seconds() / 6:
            self._renewed = self._clock()
            renew = self._plane.stores.queue.renew
            await self._in_passing(renew, self.job.id, self.job.epoch, self._plane.now() + lease)

    async def _note(self, kind: EventKind, data: dict[str, Any]) -> None:
        append = self._plane.stores.events.append
        if await self._in_passing(append, self.job.id, self.job.epoch, (kind, data), self._plane.now()):
            self._plane.bells.ring(self.job.id)

    async def _in_passing(self, call: Callable[..., Result], *args: Any) -> Result | None:
        """A store call whose failure the attempt outlives: the result is what matters."""
        try:
            return await self._in_thread(call, *args)
        except Unavailable as error:
            log.warning("not noted", job=self.job.id, reason=error.detail)
            return None

    def _invocation(self) -> Invocation:
        try:
            needed = resolve.everything(self._plane, self.job.generation)
        except UnknownModel as error:  # it was there when the job was accepted
            raise GenerationFailed(f"{error.detail} any more", field=error.field, hint=error.hint) from error
        assets.lend(self._plane, needed)
        limits, waited = self._plane.limits, self._plane.now() - self.job.created_at
        return Invocation(
            job_id=self.job.id,
            epoch=self.job.epoch,
            generation=self.job.generation,
            wait_limit=max(0, int((limits.queue - waited).total_seconds())),
            run_limit=max(1, int(limits.run.total_seconds())),
            assets=tuple(
                AssetRef(
                    kind=found.kind, name=found.name, sha256=found.sha256, size=found.size, key=found.key
                )
                for found in needed
            ),
        )

    async def _commit(self, job: Job) -> None:
        """Store how the attempt ended, unless it no longer counts; a database that is away is waited for."""
        while True:
            try:
                await self._in_thread(self._store, job)
                return
            except Unavailable as error:
                log.warning("the result waits for the database", job=job.id, reason=error.detail)
                await asyncio.sleep(COMMIT_PAUSE)

    def _store(self, job: Job) -> None:
        if job.state.is_terminal:
            end(self._plane, job)
            return
        lost = job.lost_attempts[len(self.job.lost_attempts) :]
        reason = lost[0].detail if lost else "the control plane could not go on"
        try:
            self._plane.stores.jobs.change(job, (EventKind.QUEUED, {"again": reason}), at=self._plane.now())
        except (Stale, NotFound):
            return  # called off, deleted or taken back meanwhile
        self._plane.bells.ring(job.id)

    async def _in_thread(self, call: Callable[..., Result], *args: Any) -> Result:
        return await to_thread.run_sync(call, *args, limiter=self._threads)
