"""The real program as a process: started, found, killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from cloudbrush.client import Client
from cloudbrush.domain.endpoint import EndpointState
from cloudbrush.domain.errors import NotFound, Unavailable

START_LIMIT = 120.0  # seconds, on a busy machine
GLANCE = 0.05  # seconds between looks at another process, which cannot ring a bell here


class Program:
    """`cloudbrush serve` on a data directory of its own."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._options = options
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        """Start the server; it is not there yet when this returns."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "control-plane.json").unlink(missing_ok=True)
        command = (
            sys.executable,
            "-m",
            "cloudbrush",
            "serve",
            "--port",
            "0",
            "--data-dir",
            str(self.data_dir),
        )
        with (self.data_dir / "server.log").open("ab") as log:
            self._process = psutil.Popen([*command, *self._options], stdout=log, stderr=subprocess.STDOUT)

    @property
    def process(self) -> psutil.Popen:
        """The server's process."""
        assert self._process is not None
        return self._process

    def workers(self) -> list[psutil.Process]:
        """The worker processes the server has now."""
        with suppress(psutil.NoSuchProcess):
            return [child for child in self.process.children() if "worker" in child.cmdline()]
        return []

    def kill(self) -> None:
        """kill -9; the process is gone when this returns."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to stop; the process and its workers are gone when this returns."""
        workers = self.workers()
        with suppress(psutil.NoSuchProcess):
            self.process.terminate()
        try:
            self.process.wait(40)
        except psutil.TimeoutExpired:
            self.kill()
        psutil.wait_procs(workers, timeout=10)

    async def url(self) -> str:
        """Where it listens, once it does."""
        address = self.data_dir / "control-plane.json"
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError, json.JSONDecodeError):
                return str(json.loads(address.read_text())["url"])
            if not self.process.is_running() or self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log()}")
            await asyncio.sleep(GLANCE)
        raise AssertionError(f"the server did not come up: {self.log()}")

    async def until_in_service(self, client: Client, endpoint: str = "pocket", instances: int = 1) -> None:
        """Wait until so many workers of the endpoint can paint."""
        async with asyncio.timeout(START_LIMIT):
            while True:
                with suppress(NotFound, Unavailable):
                    seen = await client.endpoint(endpoint)
                    if seen.state is EndpointState.IN_SERVICE and seen.instances >= instances:
                        return
                    assert seen.state is not EndpointState.FAILED, seen.failure_reason
                await asyncio.sleep(GLANCE)

    def log(self) -> str:
        """The last of what the server printed."""
        return (self.data_dir / "server.log").read_text()[-4000:]
