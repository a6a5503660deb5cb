"""`worker`: what runs in a container, and what the local provider starts."""

from __future__ import annotations

import os
import signal

from cloudbrush.cli.console import log_to_stderr, speaking_errors


def worker(host: str, port: int, *, blobs_url: str | None, exit_with_parent: bool) -> None:
    """Serve one engine until told to stop."""
    # Status 0, at any moment: by default SIGTERM means nothing to the first process of a container. While
    # the worker serves it is the server's, which hands it on here once everything is answered.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from cloudbrush.worker.serve import serve
    from cloudbrush.worker.settings import WorkerSettings

    log_to_stderr()
    with speaking_errors():
        settings = WorkerSettings(blobs_url=blobs_url) if blobs_url else WorkerSettings()
        serve(settings, host, port, exit_with_parent=exit_with_parent)
