"""Bringing queued jobs to workers and their results back, so that each job ends exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import structlog
from anyio import to_thread

from cloudbrush.control.bells import DISPATCH
from cloudbrush.control.jobs import finished
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.endpoint import Endpoint, EndpointState
from cloudbrush.domain.errors import CloudbrushError, GenerationFailed, NotFound, Stale, WorkerLost
from cloudbrush.domain.invocation import (
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

log = structlog.get_logger()
SWEEP_INTERVAL = 5.0  # seconds between looks for lapsed leases when nothing rings
PROGRESS_INTERVAL = 0.1  # seconds; faster steps are left out, each stored event is a write to disk


class Dispatcher:
    """Claims jobs for endpoints with free capacity and follows each attempt to its end."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._attempts: dict[str, asyncio.Task[None]] = {}  # by job id
        self._endpoint_of: dict[str, str] = {}  # of the running attempts, by job id
        self._warm: dict[str, str] = {}  # the checkpoint an endpoint used last

    @property
    def busy(self) -> bool:
        """Whether any attempt is running."""
        return bool(self._attempts)

    async def run(self) -> None:
        """Dispatch until cancelled; then give running jobs back to the queue."""
        await to_thread.run_sync(self._take_back_orphans)
        try:
            with self._plane.bells.listening(DISPATCH) as bell:
                while True:
                    await self._step()
                    await bell.wait(SWEEP_INTERVAL)
        finally:
            await self._stop()

    async def _step(self) -> None:
        """One look at everything: stop what was called off, take back what was lost, start what can start."""
        await to_thread.run_sync(self._sweep)
        await self._stop_overtaken()
        for endpoint in await to_thread.run_sync(self._plane.stores.endpoints.all):
            if endpoint.state is EndpointState.IN_SERVICE:
                await self._fill(endpoint)

    async def _fill(self, endpoint: Endpoint) -> None:
        instances = max(endpoint.instances, 1 if endpoint.spec.min_instances == 0 else 0)
        busy = sum(name == endpoint.name for name in self._endpoint_of.values())
        for _ in range(instances * endpoint.spec.concurrency - busy):
            job = await to_thread.run_sync(self._claim, endpoint.name)
            if job is None:
                return
            self._plane.bells.ring(job.id)
            attempt = asyncio.create_task(self._attempt(endpoint, job), name=f"attempt {job.id}")
            self._attempts[job.id] = attempt
            self._endpoint_of[job.id] = endpoint.name
            attempt.add_done_callback(partial(self._forget, job.id))

    def _claim(self, endpoint: str) -> Job | None:
        now = self._plane.now()
        limits = self._plane.limits

        def choose(heads: Sequence[Job]) -> Job:
            first = heads[0]
            if now - first.created_at > limits.patience:
                return first
            warm = self._warm.get(endpoint)
            return next((job for job in heads if job.generation.checkpoint == warm), first)

        return self._plane.stores.queue.claim(endpoint, now, now + limits.lease, choose)

    def _forget(self, job_id: str, _attempt: asyncio.Task[None]) -> None:
        self._attempts.pop(job_id, None)
        self._endpoint_of.pop(job_id, None)
        self._plane.bells.ring(DISPATCH)  # there is room again

    async def _attempt(self, endpoint: Endpoint, job: Job) -> None:
        """Run one attempt and commit how it ended."""
        try:
            try:
                async with asyncio.timeout(self._plane.limits.run.total_seconds()):
                    last = await self._follow(endpoint, job)
            except TimeoutError:
                last = await self._timed_out(job)
            except WorkerLost as error:
                last = job.attempt_lost(self._plane.now(), Problem(**error.as_dict()))
            except CloudbrushError as error:
                last = job.ended(JobState.FAILED, self._plane.now(), problem=Problem(**error.as_dict()))
            await to_thread.run_sync(self._commit, last)
        except Exception:
            # Never let one job end the dispatcher; its lease lapses and another attempt is made.
            log.exception("attempt broke", job=job.id, epoch=job.epoch)

    async def _follow(self, endpoint: Endpoint, job: Job) -> Job:
        """Invoke the worker, record what it says, and return the job as it ended."""
        invocation = await to_thread.run_sync(self._invocation, job)
        provider = self._plane.providers[endpoint.spec.provider]
        notes = _Notes(self._plane, job)
        async with aclosing(provider.invoke(endpoint.name, invocation)) as events:
            async for event in events:
                match event:
                    case Finished(images=images):
                        self._warm[endpoint.name] = job.generation.checkpoint or ""
                        return job.succeeded(self._plane.now(), images)
                    case Failed():
                        problem = Problem(**event.model_dump(exclude={"kind"}))
                        return job.ended(JobState.FAILED, self._plane.now(), problem=problem)
                    case _:
                        await notes.take(event)
        raise WorkerLost("the worker ended the conversation without a result")

    async def _timed_out(self, job: Job) -> Job:
        minutes = self._plane.limits.run.total_seconds() / 60
        problem = Problem(
            code="timed_out",
            detail=f"it ran longer than the allowed {minutes:g} minutes",
            hint="Try fewer steps, a smaller size or batch, or a faster endpoint.",
        )
        return job.ended(JobState.TIMED_OUT, self._plane.now(), problem=problem)

    def _invocation(self, job: Job) -> Invocation:
        name = job.generation.checkpoint or ""
        try:
            asset = self._plane.stores.assets.get(AssetKind.CHECKPOINT, name)
        except NotFound as error:
            raise GenerationFailed(
                f"checkpoint {name!r} is no longer there", field="checkpoint", hint="Choose another."
            ) from error
        ref = AssetRef(kind=asset.kind, name=asset.name, sha256=asset.sha256, size=asset.size, key=asset.key)
        return Invocation(job_id=job.id, epoch=job.epoch, generation=job.generation, assets=(ref,))

    def _commit(self, job: Job) -> None:
        """Store how an attempt ended, unless it no longer counts."""
        happening: tuple[EventKind, dict[str, Any]] = (
            finished(job)
            if job.state.is_terminal
            else (EventKind.QUEUED, {"lost": job.lost_attempts[-1].detail if job.lost_attempts else None})
        )
        stores = self._plane.stores
        with suppress(Stale, NotFound):
            stores.jobs.change(job, happening, at=self._plane.now())
            self._plane.bells.ring(job.id)
        self._drop_leftovers(job.id)
        self._plane.bells.ring(DISPATCH)

    def _drop_leftovers(self, job_id: str) -> None:
        """Delete the images nobody refers to once the job has ended or is gone."""
        stores = self._plane.stores
        kept: frozenset[str] = frozenset()
        with suppress(NotFound):
            job = stores.jobs.get(job_id)
            if not job.state.is_terminal:
                return
            kept = frozenset(image.key for image in job.images)
        stores.blobs.delete(f"jobs/{job_id}", keep=kept)

    def _sweep(self) -> None:
        """Take back jobs whose worker went silent, and end those that waited too long."""
        now = self._plane.now()
        for job in self._plane.stores.queue.overdue(now, now - self._plane.limits.queue):
            if job.state is JobState.QUEUED:
                problem = Problem(code="expired", detail="it waited in the queue longer than allowed")
                self._commit(job.ended(JobState.EXPIRED, now, problem=problem))
            else:
                lapsed = Problem(code=WorkerLost.code, detail="the worker went silent and lost its lease")
                self._commit(job.attempt_lost(now, lapsed))

    def _take_back_orphans(self) -> None:
        """Give jobs back to the queue whose workers ended with the control plane before this one.

        Only one control plane has this data, so a lease held now is held by nobody.
        """
        stores = self._plane.stores
        mortal = {
            endpoint.name
            for endpoint in stores.endpoints.all()
            if not self._plane.providers[endpoint.spec.provider].capabilities.outlives_control_plane
        }
        for job in stores.queue.running():
            if job.endpoint in mortal:
                self._commit(job.released())

    async def _stop_overtaken(self) -> None:
        """Stop attempts whose job was called off, deleted or taken back while they ran."""
        running = {job.id for job in await to_thread.run_sync(self._plane.stores.queue.running)}
        for job_id in self._attempts.keys() - running:
            if attempt := self._attempts.get(job_id):
                attempt.cancel()  # one that is just committing is past the point where this matters
                await asyncio.wait({attempt})
                await to_thread.run_sync(self._drop_leftovers, job_id)

    async def _stop(self) -> None:
        """Stop every attempt and give its job back, so that the next control plane starts it at once."""
        attempts = dict(self._attempts)
        for attempt in attempts.values():
            attempt.cancel()
        await asyncio.gather(*attempts.values(), return_exceptions=True)
        await to_thread.run_sync(self._take_back_orphans)


class _Notes:
    """Records what a worker says during one attempt, renewing the lease as it goes."""

    def __init__(self, plane: ControlPlane, job: Job) -> None:
        self._plane = plane
        self._job = job
        self._clock = asyncio.get_running_loop().time
        self._renewed = self._clock()
        self._progress_noted = 0.0

    async def take(self, event: WorkerEvent) -> None:
        """Store the event if it is news, and renew the lease now and then."""
        if self._clock() - self._renewed > self._plane.limits.lease.total_seconds() / 6:
            await to_thread.run_sync(self._renew)
            self._renewed = self._clock()
        match event:
            case Heartbeat():
                return
            case ImagePainted(image=image):
                await self._note(EventKind.IMAGE, image.model_dump(mode="json"))
            case Progress(step=step, steps=steps, preview=preview):
                due = self._clock() - self._progress_noted > PROGRESS_INTERVAL
                if due or preview or step == steps:
                    self._progress_noted = self._clock()
                    await self._note(EventKind.PROGRESS, {"step": step, "steps": steps, "preview": preview})

    def _renew(self) -> None:
        lease_until = self._plane.now() + self._plane.limits.lease
        self._plane.stores.queue.renew(self._job.id, self._job.epoch, lease_until)

    async def _note(self, kind: EventKind, data: dict[str, Any]) -> None:
        append = self._plane.stores.events.append
        if await to_thread.run_sync(append, self._job.id, self._job.epoch, (kind, data), self._plane.now()):
            self._plane.bells.ring(self._job.id)
