"""`worker`: what runs in a container, and what the local provider starts."""

from __future__ import annotations

from cloudbrush.cli.console import log_to_stderr, speaking_errors
from cloudbrush.worker.serve import serve
from cloudbrush.worker.settings import WorkerSettings


def worker(host: str, port: int, *, blobs_url: str | None, exit_with_parent: bool) -> None:
    """Serve one engine until told to stop."""
    log_to_stderr()
    with speaking_errors():
        settings = WorkerSettings(blobs_url=blobs_url) if blobs_url else WorkerSettings()
        serve(settings, host, port, exit_with_parent=exit_with_parent)
