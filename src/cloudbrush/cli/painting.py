"""`txt2img`, `img2img` and `jobs save`: submit, follow with a progress bar, save the images."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cloudbrush.cli import fields
from cloudbrush.cli.console import console, log_to_stderr, speaking_errors
from cloudbrush.cli.serving import reached, settings
from cloudbrush.client import Client
from cloudbrush.domain.endpoint import THIS_MACHINE, EndpointState
from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Generation, Img2Img, Txt2Img
from cloudbrush.domain.job import EventKind, Job, JobState, Problem
from cloudbrush.wiring import Everything


def txt2img(
    asked: Mapping[str, Any],
    others: Sequence[str],
    *,
    like: Path | None,
    output: Path,
    endpoint: str | None,
    data_dir: Path | None,
) -> None:
    """Paint images from text and save them at `output` (numbered when there are several).

    What is asked for goes before what `like`, an image or a text file with parameters, tells.
    """

    async def run(client: Client) -> Generation:
        return Txt2Img(**fields.chosen(asked, others, like))

    _paint(run, output, endpoint, data_dir)


def img2img(
    asked: Mapping[str, Any],
    others: Sequence[str],
    *,
    image: Path,
    mask: Path | None,
    output: Path,
    endpoint: str | None,
    data_dir: Path | None,
) -> None:
    """Paint over an image, everywhere or where a mask is white, and save at `output`."""

    async def run(client: Client) -> Generation:
        given = fields.chosen(asked, others)
        given["image"] = (await client.add_picture(fields.bytes_of(image, "image"))).id
        if mask:
            masked = await client.add_picture(fields.bytes_of(mask, "mask"))
            given["inpainting"] = {**given.get("inpainting", {}), "mask": masked.id}
        return Img2Img(**given)

    _paint(run, output, endpoint, data_dir)


def _paint(
    asking: Callable[[Client], Awaitable[Generation]],
    output: Path,
    endpoint: str | None,
    data_dir: Path | None,
) -> None:
    async def run() -> None:
        async with reached(settings(data_dir), endpoints={endpoint or THIS_MACHINE}) as client:
            generation = await asking(client)
            if endpoint:
                await _until_up(client, endpoint)
            job = await client.submit(generation, endpoint=endpoint)
            console.print(f"Inference ID {job.id}")
            await _follow_and_save(client, job, output)

    _run(run())


def save(job_id: str, *, output: Path, data_dir: Path | None) -> None:
    """Follow a job until it is finished and save its images."""

    async def run() -> None:
        async with reached(settings(data_dir), endpoints=Everything()) as client:
            await _follow_and_save(client, await client.job(job_id), output)

    _run(run())


async def _until_up(client: Client, name: str) -> None:
    with console.status(f"Endpoint {escape(name)} is starting ..."):
        while (await client.endpoint(name)).state is EndpointState.CREATING:
            await asyncio.sleep(0.2)  # an endpoint has no event stream


async def _follow_and_save(client: Client, job: Job, output: Path) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
    )
    with _telling_how_to_go_on(job), Progress(*columns, console=console, transient=True) as bar:
        steps = job.generation.steps * job.generation.batch_count
        task = bar.add_task("waiting for a worker", total=steps)
        async for event in client.events(job.id):
            if event.kind is EventKind.STARTED:
                bar.update(task, description="painting", completed=0)
            elif event.kind is EventKind.PROGRESS:
                bar.update(task, completed=event.data["step"], total=event.data["steps"])
    await _save(client, await client.job(job.id), output)


@contextmanager
def _telling_how_to_go_on(job: Job) -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError:  # Ctrl+C
        console.print(f"The job is kept. Go on: cloudbrush jobs save {job.id}")
        console.print(f"Call it off:         cloudbrush jobs cancel {job.id}")
        raise


async def _save(client: Client, job: Job, output: Path) -> None:
    if job.state is not JobState.SUCCEEDED:
        reason = job.problem or Problem(code="ended", detail="no reason was given")
        raise GenerationFailed(
            f"the job is {job.state}: {reason.detail}", field=reason.field, hint=reason.hint
        )
    for image in job.images:
        path = output
        if len(job.images) > 1:
            path = output.with_stem(f"{output.stem}-{image.index}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await client.image(job.id, image.index))
        console.print(f"Painted [bold]{escape(str(path))}[/] (seed {image.seed})", soft_wrap=True)


def _run(command: Coroutine[None, None, None]) -> None:
    log_to_stderr(logging.WARNING)  # what is going on is told by the progress bar
    with speaking_errors():
        asyncio.run(command)
