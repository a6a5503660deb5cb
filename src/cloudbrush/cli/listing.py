"""The commands that look at jobs, endpoints and models, or change one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from cloudbrush.cli.console import console, log_to_stderr, speaking_errors
from cloudbrush.cli.serving import reached, settings
from cloudbrush.client import Client
from cloudbrush.domain.endpoint import EndpointSpec

Answer = TypeVar("Answer")


def jobs(limit: int, data_dir: Path | None) -> None:
    """Print the latest jobs."""
    found = _ask(data_dir, lambda client: client.jobs(limit=limit))
    table = Table("time", "type", "state", "inference id", "endpoint", "prompt", box=None)
    for job in found.jobs:
        created = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        prompt = job.generation.prompt.replace("\n", " ")[:40]
        table.add_row(created, job.generation.task, job.state, job.id, job.endpoint, prompt)
    _show(table, empty="No jobs yet: paint one with `cloudbrush txt2img`.")


def job(job_id: str, data_dir: Path | None) -> None:
    """Print one job as JSON."""
    console.print_json(_ask(data_dir, lambda client: client.job(job_id)).model_dump_json())


def cancel(job_id: str, data_dir: Path | None) -> None:
    """Call a job off and print its state."""
    console.print(f"{job_id} is {_ask(data_dir, lambda client: client.cancel(job_id)).state}")


def delete(job_id: str, data_dir: Path | None) -> None:
    """Forget a finished job."""
    _ask(data_dir, lambda client: client.delete(job_id))
    console.print(f"{job_id} is deleted")


def endpoints(data_dir: Path | None) -> None:
    """Print the endpoints."""
    table = Table("name", "state", "since", "instances", "provider", "reason", box=None)
    for endpoint in _ask(data_dir, lambda client: client.endpoints()):
        since = endpoint.changed_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        reason = endpoint.failure_reason or ""
        instances = str(endpoint.instances)
        table.add_row(endpoint.name, endpoint.state, since, instances, endpoint.spec.provider, reason)
    _show(table, empty="No endpoints yet: start the studio with `cloudbrush serve`.")


def deploy(spec: dict[str, Any], data_dir: Path | None) -> None:
    """Bring up an endpoint."""
    endpoint = _ask(data_dir, lambda client: client.deploy(EndpointSpec(**spec)))
    console.print(f"{endpoint.name} is {endpoint.state}")


def delete_endpoint(name: str, data_dir: Path | None) -> None:
    """Take an endpoint down."""
    _ask(data_dir, lambda client: client.delete_endpoint(name))
    console.print(f"{name} is being deleted")


def models(data_dir: Path | None) -> None:
    """Print the catalogue."""
    table = Table("kind", "name", "hash", "family", "size", box=None)
    for asset in _ask(data_dir, lambda client: client.models()):
        size = f"{asset.size / 2**20:.1f} MiB"
        table.add_row(asset.kind, asset.name, asset.short_hash, asset.family or "", size)
    _show(table, empty="No model files: put some into models/Stable-diffusion of the data directory.")


def _ask(data_dir: Path | None, question: Callable[[Client], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        async with reached(settings(data_dir)) as client:
            return await question(client)

    log_to_stderr(logging.WARNING)
    with speaking_errors():
        return asyncio.run(run())
    raise AssertionError("speaking_errors ends the process")


def _show(table: Table, *, empty: str) -> None:
    console.print(table if table.row_count else empty)
