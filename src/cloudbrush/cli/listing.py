"""The commands that look at jobs, endpoints and models, or change one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.markup import escape
from rich.table import Table

from cloudbrush.cli.console import console, log_to_stderr, speaking_errors, wide_console
from cloudbrush.cli.serving import reached, settings
from cloudbrush.client import Client
from cloudbrush.conversion import old_files
from cloudbrush.domain.endpoint import EndpointSpec

Answer = TypeVar("Answer")


def jobs(limit: int, data_dir: Path | None) -> None:
    """Print the latest jobs."""
    found = _ask(data_dir, lambda client: client.jobs(limit=limit))
    table = _table("time", "type", "state", "inference id", "endpoint", "prompt")
    for job in found.jobs:
        prompt = job.generation.prompt.replace("\n", " ")
        row = (_local(job.created_at), job.generation.task, job.state, job.id, job.endpoint, prompt[:40])
        table.add_row(*map(escape, row))
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
    table = _table("name", "state", "since", "instances", "provider", "reason")
    for endpoint in _ask(data_dir, lambda client: client.endpoints()):
        since, reason = _local(endpoint.changed_at), endpoint.failure_reason or ""
        instances = str(endpoint.instances)
        table.add_row(endpoint.name, endpoint.state, since, instances, endpoint.spec.provider, reason)
    _show(table, empty="No endpoints yet: start the studio with `cloudbrush serve`.")


def deploy(spec: dict[str, Any], data_dir: Path | None) -> None:
    """Bring up an endpoint."""
    endpoint = _ask(data_dir, lambda client: client.deploy(EndpointSpec(**spec)))
    console.print(f"{endpoint.name} is {endpoint.state}")


def resize_endpoint(name: str, fewest: int | None, most: int | None, data_dir: Path | None) -> None:
    """Change how many instances an endpoint has."""
    asked = {"min_instances": fewest, "max_instances": most}
    given = {field: number for field, number in asked.items() if number is not None}
    endpoint = _ask(data_dir, lambda client: client.resize_endpoint(name, **given))
    console.print(f"{endpoint.name} is {endpoint.state}")


def delete_endpoint(name: str, data_dir: Path | None) -> None:
    """Take an endpoint down."""
    _ask(data_dir, lambda client: client.delete_endpoint(name))
    console.print(f"{name} is being deleted")


def models(data_dir: Path | None) -> None:
    """Print the catalogue."""
    table = _table("kind", "name", "hash", "family", "size")
    for asset in _ask(data_dir, lambda client: client.models()):
        size = f"{asset.size / 2**20:.1f} MiB"
        table.add_row(asset.kind, escape(asset.shown_name), asset.short_hash, asset.family or "", size)
    _show(table, empty="No model files: put some into models/Stable-diffusion of the data directory.")
    folder = settings(data_dir).models_dir
    if old := old_files.waiting(folder):
        rewriting = f"`cloudbrush models convert {escape(str(folder))}`"
        console.print(f"{len(old)} in old formats are left out; {rewriting} rewrites them", soft_wrap=True)


def _ask(data_dir: Path | None, question: Callable[[Client], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        async with reached(settings(data_dir)) as client:
            return await question(client)

    log_to_stderr(logging.WARNING)
    with speaking_errors():
        return asyncio.run(run())
    raise AssertionError("speaking_errors ends the process")


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show(table: Table, *, empty: str) -> None:
    wide_console.print(table if table.row_count else empty)
