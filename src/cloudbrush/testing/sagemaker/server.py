"""The stand-in as a server: in a thread of this process, or as a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import uvicorn
from starlette.applications import Starlette

from cloudbrush.testing.sagemaker.account import Account
from cloudbrush.testing.sagemaker.app import create_app
from cloudbrush.testing.sagemaker.clock import Clock, WallClock
from cloudbrush.testing.sagemaker.controls import Controls
from cloudbrush.testing.sagemaker.delivery import Delivery
from cloudbrush.testing.sagemaker.faults import Faults
from cloudbrush.testing.sagemaker.fleet import Delays, Machinery

HOST = "127.0.0.1"
REGION = "us-east-1"  # where nobody says another
GRACE = 1  # seconds open connections get when the server stops
START_LIMIT = 60.0  # seconds, on a busy machine


class SageMaker:
    """A stand-in for Amazon SageMaker hosting.

    `worker` is the command that a container image would run; `{port}` in it is replaced. The worker's
    environment is `environment` (by default this process's), the variables of its model, and
    SAGEMAKER_BIND_TO_PORT. S3 and SNS are reached by boto3's own rules. In a `with` block it serves from a
    thread, `serve` from the caller's.
    """

    def __init__(
        self,
        worker: Sequence[str],
        *,
        port: int = 0,
        region: str | None = None,
        clock: Clock | None = None,
        delays: Delays | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Take the port, which is any free one by default; `region` is boto3's, or us-east-1."""
        self._worker = tuple(worker)
        self._region = region or os.environ.get(
            "AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
        )
        self._clock = clock or WallClock()
        self._delays = delays or Delays()
        self._environment = environment
        self._listener = socket.create_server((HOST, port))
        self._ready = threading.Event()
        self._account: Account | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(self._running, self._life),
                log_level="warning",
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._thread = threading.Thread(target=self.serve, name="sagemaker stand-in", daemon=True)
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self.controls = Controls(self.url)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3's clients find it."""
        return {
            "AWS_ENDPOINT_URL_SAGEMAKER": self.url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.url,
        }

    def serve(self) -> None:
        """Serve until told to stop, by `stop` or a signal."""
        self._server.run(sockets=[self._listener])
        self._ready.set()  # also if it could not start: nobody needs to wait

    def stop(self) -> None:
        """Stop serving; the workers are killed."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_LIMIT) or self._account is None:
            raise RuntimeError("the stand-in did not start; its log says why")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()
        self.controls.close()

    def _running(self) -> Account:
        assert self._account is not None, "requests come while the application lives"
        return self._account

    @asynccontextmanager
    async def _life(self, _app: Starlette) -> AsyncIterator[None]:
        logs = Path(tempfile.mkdtemp(prefix="sagemaker-"))
        # No connection is kept: a worker that closes an idle one would look like one that breaks off.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        faults = Faults()
        inherited = {"AWS_REGION": self._region, "AWS_DEFAULT_REGION": self._region}
        async with httpx.AsyncClient(limits=limits, trust_env=False) as http:
            machinery = Machinery(
                command=self._worker,
                environment={**(os.environ if self._environment is None else self._environment), **inherited},
                logs=logs,
                http=http,
                clock=self._clock,
                delays=self._delays,
                faults=faults,
            )
            self._account = Account(self._region, machinery, Delivery(self._region, self._clock, faults))
            self._ready.set()
            try:
                yield
            finally:
                await self._account.close()
                shutil.rmtree(logs, ignore_errors=True)
