"""Bringing queued jobs to workers and their results back, so that each job ends exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from anyio import CapacityLimiter, to_thread

from cloudbrush.control.attempt import Attempt
from cloudbrush.control.bells import DISPATCH
from cloudbrush.control.jobs import end
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.endpoint import Endpoint
from cloudbrush.domain.errors import NotFound, Stale, WorkerLost
from cloudbrush.domain.job import EventKind, Job, JobState, Problem
from cloudbrush.providers.base import LastingProvider

log = structlog.get_logger()
LOOK_AGAIN = 5.0  # seconds between looks when nothing rings
RESTARTED = "the control plane was restarted"
THREADS = 20  # for the store calls of dispatching alone, so that requests cannot starve it


class Dispatcher:
    """Claims jobs for endpoints with free capacity and follows each attempt to its end."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._attempts: dict[str, Attempt] = {}  # by job id
        self._warm: dict[str, str] = {}  # the checkpoint an endpoint used last
        self._stopping = False
        self._threads = CapacityLimiter(THREADS)

    @property
    def busy(self) -> bool:
        """Whether any attempt is running."""
        return bool(self._attempts)

    def stop(self) -> None:
        """Make `run` end soon; it gives running jobs back to the queue first."""
        self._stopping = True
        self._plane.bells.ring(DISPATCH)

    async def run(self) -> None:
        """Dispatch until stopped. An error of one look is logged and the next look goes on."""
        with self._plane.bells.listening(DISPATCH) as bell:
            await self._survive(self._take_up())
            while not self._stopping:
                await self._survive(self._step())
                await bell.wait(LOOK_AGAIN)
        await self._give_back()

    async def _survive(self, work: Any) -> None:
        try:
            await work
        except Exception:
            log.exception("dispatching stumbled; it goes on")

    async def _step(self) -> None:
        """One look: take back what was lost, stop what no longer counts, start what can start."""
        await self._in_thread(self._sweep)
        await self._stop_overtaken()
        for endpoint in await self._in_thread(self._plane.stores.endpoints.all):
            if endpoint.state.takes_jobs:
                await self._fill(endpoint)

    async def _fill(self, endpoint: Endpoint) -> None:
        for _ in range(endpoint.room - len(self._running_at(endpoint.name))):
            job = await self._in_thread(self._claim, endpoint.name)
            if job is None:
                return
            self._plane.bells.ring(job.id)
            self._begin(endpoint, job)

    def _begin(self, endpoint: Endpoint, job: Job) -> None:
        attempt = Attempt(self._plane, endpoint, job, self._threads)
        self._attempts[job.id] = attempt
        attempt.ended.add_done_callback(lambda _ended: self._forget(attempt))

    def _forget(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.job.id) is attempt:
            del self._attempts[attempt.job.id]
        self._warm[attempt.job.endpoint] = attempt.job.generation.checkpoint or ""
        self._plane.bells.ring(DISPATCH)  # there is room again

    def _running_at(self, endpoint: str) -> list[Attempt]:
        return [attempt for attempt in self._attempts.values() if attempt.job.endpoint == endpoint]

    def _claim(self, endpoint: str) -> Job | None:
        now, limits = self._plane.now(), self._plane.limits
        neighbours = self._running_at(endpoint)
        if any(attempt.job.lost_attempts for attempt in neighbours):
            return None

        def choose(heads: Sequence[Job]) -> Job | None:
            first = heads[0]
            if first.lost_attempts:
                # Whatever killed a worker runs alone next time, and takes no neighbour down with it.
                return None if neighbours else first
            if now - first.created_at > limits.patience:
                return first
            warm = self._warm.get(endpoint)
            return next((job for job in heads if job.generation.checkpoint == warm), first)

        return self._plane.stores.queue.claim(endpoint, now, now + limits.lease, choose)

    async def _stop_overtaken(self) -> None:
        """Stop attempts whose job was called off, deleted or taken back while they ran."""
        running = {(job.id, job.epoch) for job in await self._in_thread(self._plane.stores.queue.running)}
        overtaken = [
            attempt
            for attempt in self._attempts.values()
            if (attempt.job.id, attempt.job.epoch) not in running
        ]
        for attempt in overtaken:
            attempt.stop()

    def _sweep(self) -> None:
        """Take back jobs nobody runs, and end those that waited too long or whose endpoint is gone."""
        now, queue = self._plane.now(), self._plane.stores.queue
        for job in queue.overdue(now, now - self._plane.limits.queue):
            if job.state is JobState.QUEUED:
                problem = Problem(code="expired", detail="it waited in the queue longer than allowed")
                end(self._plane, job.ended(JobState.EXPIRED, now, problem=problem))
            elif job.id not in self._attempts:  # one that runs here is judged by its worker's words
                lapsed = Problem(code=WorkerLost.code, detail="the worker went silent and lost its lease")
                self._take_back(job.attempt_lost(now, lapsed), lapsed.detail)
        for job in queue.stranded():
            problem = Problem(code="endpoint_deleted", detail=f"its endpoint {job.endpoint!r} was deleted")
            end(self._plane, job.ended(JobState.CANCELLED, now, problem=problem))

    async def _take_up(self) -> None:
        """Follow again what ran on without a control plane, and give the other jobs back to the queue.

        Only one control plane has this data, so a lease held now is held by nobody.
        """
        places = {place.name: place for place in await self._in_thread(self._plane.stores.endpoints.all)}
        for job in await self._in_thread(self._plane.stores.queue.running):
            place = places.get(job.endpoint)
            provider = place and self._plane.providers.get(place.spec.provider)
            if not isinstance(provider, LastingProvider):
                await self._in_thread(self._take_back, job.released(), RESTARTED)
            elif place and job.handle is not None:
                self._begin(place, job)
            else:  # killed between asking for the attempt and noting that it was accepted
                await self._survive(provider.stop(job.id, job.epoch))
                await self._in_thread(self._take_back, job.released(), RESTARTED)

    def _take_back(self, job: Job, reason: str) -> None:
        if job.state.is_terminal:
            end(self._plane, job)
            return
        with suppress(Stale, NotFound):
            happening = (EventKind.QUEUED, {"again": reason})
            self._plane.stores.jobs.change(job, happening, at=self._plane.now())
            self._plane.bells.ring(job.id)

    async def _give_back(self) -> None:
        """Let go of what its provider keeps; stop every other attempt and return its job at once."""
        attempts = list(self._attempts.values())
        kept = {attempt.job.id for attempt in attempts if attempt.let_go()}
        stopped = [attempt for attempt in attempts if attempt.job.id not in kept]
        for attempt in stopped:
            attempt.stop()
        await asyncio.gather(*(attempt.ended for attempt in attempts), return_exceptions=True)
        for job in await self._in_thread(self._plane.stores.queue.running):
            if job.id not in kept:
                await self._survive(self._in_thread(self._take_back, job.released(), RESTARTED))

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await to_thread.run_sync(call, *args, limiter=self._threads)
