"""One instance: a worker process that speaks the container contract, GET /ping and POST /invocations.

"Custom Inference Code with Hosting Services" of the developer guide says how a container is run and stopped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from cloudbrush.testing.sagemaker.errors import LaunchFailed, WorkerGone

CONNECT = httpx.Timeout(None, connect=5.0)  # seconds; how long an answer may take is the caller's to say
PING_TIMEOUT = 2.0  # seconds, as documented
PING_INTERVAL = 0.05  # seconds; the contract offers nothing but asking again
KILL_AFTER = 30.0  # seconds from SIGTERM to SIGKILL, as documented
DYING = 1.0  # seconds of real time between a broken connection and the end of the process
TIMED_OUT = (  # what callers are told of a container that does not answer: "Troubleshooting" of the guide
    "Your invocation timed out while waiting for a response from container primary. Review the latency "
    "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)
PORT = "{port}"  # what the worker's command writes where its port goes


class Worker:
    """A process on a port of its own; `running` counts the invocations it works on."""

    def __init__(
        self, instance_id: str, process: Process, port: int, log: Path, http: httpx.AsyncClient
    ) -> None:
        self.id = instance_id
        self.process = process
        self.log = log
        self.running = 0
        self._url = f"http://127.0.0.1:{port}"
        self._http = http

    async def healthy(self) -> None:
        """Return once /ping answers 200. Raises `LaunchFailed` if the process ends before."""
        while self.process.returncode is None:
            with suppress(httpx.TransportError):
                if (await self._http.get(f"{self._url}/ping", timeout=PING_TIMEOUT)).status_code == 200:
                    return
            await asyncio.sleep(PING_INTERVAL)
        raise LaunchFailed(f"the worker ended with status {self.process.returncode}")

    @asynccontextmanager
    async def invoked(self, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """POST /invocations: the response, its body still to be read.

        Raises `WorkerGone`, also when the worker breaks off while the body is read.
        """
        try:
            request = self._http.stream(
                "POST", f"{self._url}/invocations", content=body, headers=dict(headers), timeout=CONNECT
            )
            async with request as response:
                yield response
        except httpx.TransportError as error:
            raise WorkerGone(f"instance {self.id} broke off") from error

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not leave."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.terminate()
            try:
                async with asyncio.timeout(KILL_AFTER):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()

    async def dies(self) -> None:
        """Return when the process has ended, or after a moment: who broke off may be about to."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DYING):
                await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL; the process is gone when this returns."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


async def start(
    instance_id: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    logs: Path,
    http: httpx.AsyncClient,
) -> Worker:
    """Start a worker on a free port, which it learns from `{port}` in its command and SAGEMAKER_BIND_TO_PORT.

    Its standard input stays open for as long as the stand-in lives. Raises `LaunchFailed`.
    """
    port = _free_port()
    log = logs / f"{instance_id}.log"
    try:
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(word.replace(PORT, str(port)) for word in command),
                env={**environment, "SAGEMAKER_BIND_TO_PORT": str(port)},
                stdin=PIPE,
                stdout=output,
                stderr=STDOUT,
                start_new_session=os.name == "posix",  # Ctrl+C reaches the stand-in only
            )
    except OSError as error:
        raise LaunchFailed(f"the worker's process cannot be started: {error.strerror}") from error
    return Worker(instance_id, process, port, log, http)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
