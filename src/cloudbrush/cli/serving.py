"""Hosting a control plane, and finding the one that has a data directory already."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from filelock import FileLock, Timeout
from rich.markup import escape

from cloudbrush.aws import checks
from cloudbrush.cli.console import console, log_to_stderr, speaking_errors
from cloudbrush.client import Client
from cloudbrush.domain.endpoint import EndpointState
from cloudbrush.domain.errors import Conflict, Unavailable
from cloudbrush.settings import Settings
from cloudbrush.wiring import Everything, control_plane

ADDRESS_LIMIT = 15.0  # seconds a control plane may take from its lock to its address
HANG_UP = 2  # seconds open event streams may take to end when the server stops


def settings(data_dir: Path | None, *, host: str | None = None, port: int | None = None) -> Settings:
    """The settings, with what the command line gave."""
    given: dict[str, Any] = {"data_dir": data_dir, "host": host, "port": port}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def serve(settings: Settings, *, studio: bool) -> None:
    """Host a control plane until stopped, telling what happens."""
    log_to_stderr()
    with speaking_errors():
        checks.require(settings)
        asyncio.run(_serve(settings, studio=studio))


async def _serve(settings: Settings, *, studio: bool) -> None:
    console.print(f"Cloudbrush keeps its data in [bold]{escape(str(settings.data_dir.resolve()))}[/]")
    mount = _studio if studio else _nothing
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with hosted(settings, endpoints=Everything(), mount=mount) as url:
        console.print(f"Open [bold]{url}[/] and paint. Ctrl+C stops.", soft_wrap=True)
        telling = asyncio.create_task(_tell_endpoints(url))
        await stop.wait()
        telling.cancel()
        console.print("Stopping: running jobs go back to the queue ...")


def _nothing(app: FastAPI, _url: str) -> FastAPI:
    return app


def _studio(app: FastAPI, url: str) -> FastAPI:
    from cloudbrush.studio.app import mount

    console.print("Preparing the studio ...")
    return mount(app, url)


async def _tell_endpoints(url: str) -> None:
    """Say when the endpoints a person can choose are ready."""
    async with Client(url) as client:
        waiting = {endpoint.name for endpoint in await client.endpoints() if endpoint.spec.min_instances}
        with console.status(f"Starting endpoint {', '.join(sorted(waiting))} ..."):
            while waiting:
                for endpoint in await client.endpoints():
                    if endpoint.name in waiting and endpoint.state is not EndpointState.CREATING:
                        console.print(f"Endpoint [bold]{escape(endpoint.name)}[/] is {endpoint.state}")
                        waiting.remove(endpoint.name)
                await asyncio.sleep(0.2)  # only until they are up; an endpoint has no event stream


@asynccontextmanager
async def reached(settings: Settings, *, endpoints: Container[str] | None = None) -> AsyncIterator[Client]:
    """A client of the control plane that has the data directory; hosted here for this long if none has."""
    try:
        async with (
            hosted(settings.model_copy(update={"port": 0}), endpoints=endpoints) as url,
            Client(url) as client,
        ):
            yield client
    except _Taken as taken:
        async with Client(await asyncio.to_thread(_address, taken.address)) as client:
            yield client


@asynccontextmanager
async def hosted(
    settings: Settings,
    *,
    endpoints: Container[str] | None,
    mount: Callable[[FastAPI, str], FastAPI] = _nothing,
) -> AsyncIterator[str]:
    """The URL of a control plane that runs in this process for as long as the context lasts.

    Raises `Conflict` when another one has the data directory, `Unavailable` when the port is taken.
    """
    with _locked(settings) as address:
        listener = _listen(settings)
        url = f"http://{settings.host}:{listener.getsockname()[1]}"
        app = mount(control_plane(settings, endpoints=endpoints), url)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=HANG_UP, ws="none"
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not (server.started or serving.done()):
                await asyncio.sleep(0.02)  # uvicorn announces this in no other way
            if serving.done():
                raise Unavailable("the control plane could not start", hint="The reason is printed above.")
            address.write_text(json.dumps({"url": url}))
            yield url
        finally:
            address.unlink(missing_ok=True)
            server.should_exit = True
            await serving


class Server(uvicorn.Server):
    """A server that leaves signals to whoever hosts it; uvicorn's own handling ends the process at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Taken(Conflict):
    """Another control plane has the data directory; `address` is the file that says where it listens."""

    def __init__(self, address: Path) -> None:
        super().__init__(
            "another Cloudbrush is running on this data directory",
            field="data-dir",
            hint="Use that one, or choose another --data-dir.",
        )
        self.address = address


@contextmanager
def _locked(settings: Settings) -> Iterator[Path]:
    """Hold the data directory; the lock goes with the process, however it ends."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    address = settings.data_dir / "control-plane.json"
    lock = FileLock(settings.data_dir / "control-plane.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _Taken(address) from error
    try:
        address.unlink(missing_ok=True)
        yield address
    finally:
        lock.release()


def _address(file: Path) -> str:
    """Where the control plane that holds the lock listens; it may be just starting."""
    deadline = time.monotonic() + ADDRESS_LIMIT
    while time.monotonic() < deadline:
        try:
            return str(json.loads(file.read_text())["url"])
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.1)  # written by another process, which has no way to tell us
    raise Unavailable(
        "another Cloudbrush holds the data directory but does not say where it listens",
        hint="Wait until it has started, or stop it.",
    )


def _listen(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise Unavailable(
            f"port {settings.port} of {settings.host} cannot be used: {error.strerror}",
            field="port",
            hint="Choose another with --port, or 0 for any free one.",
        ) from error
