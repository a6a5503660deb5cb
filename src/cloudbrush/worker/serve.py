"""A worker process: loads the engine, listens, tells its address, leaves when told."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn

from cloudbrush.domain.errors import Unavailable
from cloudbrush.engine import Engine
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker.app import create_app
from cloudbrush.worker.model_cache import ModelCache
from cloudbrush.worker.runner import Runner
from cloudbrush.worker.settings import WorkerSettings

GRACE = 20  # seconds running invocations may take to finish after SIGTERM; SageMaker kills after 30


def serve(settings: WorkerSettings, host: str, port: int, *, exit_with_parent: bool) -> None:
    """Serve until told to stop and finish what runs; prints `{"url": ...}` as first line.

    `port` 0 takes any free one. Raises `Unavailable` when the port or the model cache cannot be used.
    """
    if exit_with_parent:
        threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    blobs = Blobs(settings.blobs_url)
    if blobs.local_path("models") is None:
        _check_writable(settings.cache_dir)
    cache = ModelCache(blobs, settings.cache_dir, settings.cache_bytes, settings.model_dir)
    engine = Engine(device=settings.device)
    listener = _listen(host, port)
    print(json.dumps({"url": f"http://{host}:{listener.getsockname()[1]}"}), flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads on; a full pipe would block
    config = uvicorn.Config(
        create_app(Runner(engine, blobs, cache)),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )
    uvicorn.Server(config).run(sockets=[listener])  # when all is answered it raises its signal again
    engine.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise Unavailable(f"port {port} of {host} cannot be used: {error.strerror}", field="port") from error


def _check_writable(cache: Path) -> None:
    """Better now than in the middle of the first job."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as error:
        raise Unavailable(
            f"models cannot be kept in {cache}: {error.strerror}",
            field="CLOUDBRUSH_WORKER_CACHE_DIR",
            hint="Name a folder that the worker's user may write to.",
        ) from error


def _leave_at_end_of_input() -> None:
    """The parent holds our standard input open; its end means the parent died, however."""
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)
