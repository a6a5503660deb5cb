"""Workers as processes on this machine: the very program that a container runs, on loopback ports."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.errors import GenerationFailed, NotFound, WorkerLost
from cloudbrush.domain.invocation import (
    HEARTBEAT_SECONDS,
    WORKER_EVENT,
    Failed,
    Finished,
    Heartbeat,
    Invocation,
    WorkerEvent,
)
from cloudbrush.providers import answers
from cloudbrush.providers.base import Capabilities, Observed

START_LIMIT = 180.0  # seconds a worker may take until it answers /ping
STOP_LIMIT = 25.0  # seconds a worker may take to finish after SIGTERM
MAX_FAILED_STARTS = 3  # in a row, before the endpoint is Failed
PING_INTERVAL = 0.1  # seconds between looks at a worker that is starting
RESTART_PAUSE = 0.5  # seconds, so that a worker that cannot start does not spin
STABLE = 2.0  # seconds; a worker that lives shorter counts as one that could not start


@dataclass
class _Worker:
    """One running process."""

    process: Process
    url: str
    running: int = 0  # invocations


@dataclass
class _Fleet:
    """The workers of one endpoint."""

    spec: EndpointSpec
    wanted: int  # instances
    workers: list[_Worker] = field(default_factory=list)  # those that answer
    keepers: list[asyncio.Task[None]] = field(default_factory=list)  # one per wanted instance
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    given_up: int = 0  # keepers whose worker cannot be started
    failure_reason: str | None = None
    was_up: bool = False

    @property
    def state(self) -> EndpointState:
        """InService once the first worker answered; a restart in between does not end that."""
        if self.failure_reason:
            return EndpointState.FAILED
        up = self.was_up or self.spec.min_instances == 0
        return EndpointState.IN_SERVICE if up else EndpointState.CREATING


class LocalProvider:
    """Starts, watches, restarts and stops worker processes."""

    capabilities = Capabilities(scales_to_zero=True)

    def __init__(self, *, blobs_url: str, logs_dir: Path, silence: float = 30.0) -> None:
        """Workers share the blob store at `blobs_url`; one silent for `silence` seconds counts as lost."""
        self._blobs_url = blobs_url
        self._logs_dir = logs_dir
        self._fleets: dict[str, _Fleet] = {}
        self._on_change: Callable[[str], None] = lambda _name: None
        timeout = httpx.Timeout(10.0, read=silence)
        # No pool limit: a waiting invocation would look like a silent worker.
        self._http = httpx.AsyncClient(
            timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=None)
        )

    def watch(self, on_change: Callable[[str], None]) -> None:
        """See `Provider.watch`."""
        self._on_change = on_change

    async def deploy(self, spec: EndpointSpec) -> None:
        """See `Provider.deploy`."""
        fleet = self._fleets.get(spec.name)
        if fleet is None:
            fleet = self._fleets[spec.name] = _Fleet(spec, wanted=spec.min_instances)
        elif fleet.spec == spec:
            return
        fleet.spec, fleet.wanted = spec, spec.min_instances
        self._hire(fleet)
        await self._dismiss(fleet)
        self._on_change(spec.name)

    async def describe(self, name: str) -> Observed:
        """See `Provider.describe`."""
        fleet = self._fleet(name)
        return Observed(fleet.state, len(fleet.workers), fleet.failure_reason)

    async def delete(self, name: str) -> None:
        """See `Provider.delete`."""
        fleet = self._fleets.pop(name, None)
        if fleet is None:
            return
        for keeper in fleet.keepers:
            keeper.cancel()
        await asyncio.gather(*fleet.keepers, return_exceptions=True)
        self._on_change(name)

    async def close(self) -> None:
        """Stop every worker."""
        await asyncio.gather(*(self.delete(name) for name in list(self._fleets)))
        await self._http.aclose()

    async def invoke(self, name: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """See `Provider.invoke`. Closing the connection is what tells the worker to stop."""
        fleet = self._fleet(name)
        async for _ in self._until_up(fleet):
            yield Heartbeat()  # waiting for a worker to start is not silence
        worker = min(fleet.workers, key=lambda worker: worker.running)
        worker.running += 1
        try:
            async with aclosing(self._stream(worker, invocation)) as events:
                async for event in events:
                    yield event
                    if isinstance(event, Finished | Failed):
                        return
            raise WorkerLost("the worker ended the conversation without a result")
        except httpx.TransportError as error:
            await self._withdraw(fleet, worker)
            with suppress(ProcessLookupError):
                worker.process.kill()  # it died or hangs; its keeper starts a fresh one
            hung = isinstance(error, httpx.TimeoutException)
            what = "the worker was silent for too long" if hung else "the worker's process died"
            raise WorkerLost(what) from error
        finally:
            worker.running -= 1

    async def _stream(self, worker: _Worker, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        headers = {"Content-Type": "application/json"}
        request = self._http.stream(
            "POST", f"{worker.url}/invocations", content=invocation.model_dump_json(), headers=headers
        )
        async with request as response:
            if response.is_error:
                body = await response.aread()
                if failed := answers.failure(body):
                    yield failed
                    return
                said = body.decode(errors="replace")[:500]
                raise GenerationFailed(f"the worker refused the invocation ({response.status_code}): {said}")
            async for line in response.aiter_lines():
                yield WORKER_EVENT.validate_json(line)

    async def _until_up(self, fleet: _Fleet) -> AsyncIterator[None]:
        """Wait for a worker that answers, coming back now and then. Raises `WorkerLost` if none will."""
        if fleet.wanted == 0:  # scaled to zero: the first invocation starts a worker
            fleet.wanted = 1
            self._hire(fleet)
        while not fleet.workers:
            if fleet.failure_reason:
                raise WorkerLost(fleet.failure_reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS), fleet.changed:
                    await fleet.changed.wait()
            yield

    def _hire(self, fleet: _Fleet) -> None:
        while len(fleet.keepers) < fleet.wanted:
            keeper = self._keep_alive(fleet, slot=len(fleet.keepers))
            fleet.keepers.append(asyncio.create_task(keeper, name=f"keeper {fleet.spec.name}"))

    async def _dismiss(self, fleet: _Fleet) -> None:
        """End the workers beyond those wanted; their jobs run again elsewhere."""
        surplus = fleet.keepers[fleet.wanted :]
        del fleet.keepers[fleet.wanted :]
        for keeper in surplus:
            keeper.cancel()
        await asyncio.gather(*surplus, return_exceptions=True)

    async def _keep_alive(self, fleet: _Fleet, slot: int) -> None:
        """Run one worker for as long as the endpoint lives: start, watch, start again."""
        failed_starts = 0
        while failed_starts < MAX_FAILED_STARTS:
            try:
                async with self._worker(fleet, slot) as worker:
                    await self._announce(fleet, joined=worker)
                    started = time.monotonic()
                    try:
                        await worker.process.wait()
                    finally:
                        await self._withdraw(fleet, worker)
                failed_starts = 0 if time.monotonic() - started > STABLE else failed_starts + 1
            except WorkerLost:
                failed_starts += 1
            await asyncio.sleep(RESTART_PAUSE if failed_starts else 0)
        fleet.given_up += 1
        if fleet.given_up == fleet.wanted:
            log = self._log(fleet, slot).name
            fleet.failure_reason = f"its worker failed {MAX_FAILED_STARTS} times in a row; see logs/{log}"
        await self._announce(fleet)

    async def _withdraw(self, fleet: _Fleet, worker: _Worker) -> None:
        """Give a worker no more work."""
        if worker in fleet.workers:
            fleet.workers.remove(worker)
            await self._announce(fleet)

    async def _announce(self, fleet: _Fleet, joined: _Worker | None = None) -> None:
        if joined:
            fleet.workers.append(joined)
            fleet.was_up = True
        async with fleet.changed:
            fleet.changed.notify_all()
        self._on_change(fleet.spec.name)

    @asynccontextmanager
    async def _worker(self, fleet: _Fleet, slot: int) -> AsyncIterator[_Worker]:
        """A worker process that answers /ping; it is gone when the context ends. Raises `WorkerLost`."""
        try:
            process = await self._start(self._log(fleet, slot))
        except OSError as error:
            raise WorkerLost(f"the worker's process cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(START_LIMIT):
                url = await _announced_url(process)
                await self._healthy(process, url)
            yield _Worker(process, url)
        except TimeoutError as error:
            raise WorkerLost("the worker did not come up in time") from error
        finally:
            await _stop(process)

    async def _start(self, log: Path) -> Process:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cloudbrush", "worker", "--port", "0", "--exit-with-parent"),
                env={**os.environ, "CLOUDBRUSH_WORKER_BLOBS_URL": self._blobs_url},
                stdin=PIPE,  # stays open: its end tells the worker that this process died
                stdout=PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl+C reaches the control plane only; it stops its workers
            )

    async def _healthy(self, process: Process, url: str) -> None:
        while process.returncode is None:
            with suppress(httpx.TransportError):
                if (await self._http.get(f"{url}/ping")).is_success:
                    return
            await asyncio.sleep(PING_INTERVAL)  # SageMaker's contract offers nothing but asking again
        raise WorkerLost("the worker ended while starting")

    def _log(self, fleet: _Fleet, slot: int) -> Path:
        return self._logs_dir / f"worker-{fleet.spec.name}-{slot}.log"

    def _fleet(self, name: str) -> _Fleet:
        if name not in self._fleets:
            raise NotFound(f"there is no endpoint {name!r}", field="endpoint")
        return self._fleets[name]


async def _announced_url(process: Process) -> str:
    """The address a worker prints as its first line, as JSON."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError) as error:
        raise WorkerLost("the worker ended while starting, or did not tell its address") from error


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_LIMIT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
