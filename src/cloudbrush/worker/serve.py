"""A worker process: loads the engine, listens, tells its address, leaves when told."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

import uvicorn

from cloudbrush.engine import Engine
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker.app import create_app
from cloudbrush.worker.model_cache import ModelCache
from cloudbrush.worker.runner import Runner
from cloudbrush.worker.settings import WorkerSettings

GRACE = 20  # seconds running invocations may take to finish after SIGTERM


def serve(settings: WorkerSettings, host: str, port: int, *, exit_with_parent: bool) -> None:
    """Serve until SIGTERM; prints `{"url": ...}` as first line. `port` 0 takes any free one."""
    if exit_with_parent:
        threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    blobs = Blobs(settings.blobs_url)
    cache = ModelCache(blobs, settings.cache_dir, settings.cache_bytes, settings.model_dir)
    engine = Engine(device=settings.device)
    listener = socket.create_server((host, port))
    print(json.dumps({"url": f"http://{host}:{listener.getsockname()[1]}"}), flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads on; a full pipe would block
    config = uvicorn.Config(
        create_app(Runner(engine, blobs, cache)),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )
    uvicorn.Server(config).run(sockets=[listener])
    engine.close()


def _leave_at_end_of_input() -> None:
    """The parent holds our standard input open; its end means the parent died, however."""
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)
