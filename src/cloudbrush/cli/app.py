"""`cloudbrush`: the commands and their options. Nothing heavy is imported until a command runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloudbrush.cli import aws, models

app = typer.Typer(
    name="cloudbrush",
    help="A Stable Diffusion studio that paints in the cloud, or on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
jobs = typer.Typer(help="Look at jobs, follow them, call them off, forget them.", no_args_is_help=True)
endpoints = typer.Typer(help="Look at endpoints, bring them up, take them down.", no_args_is_help=True)
app.add_typer(jobs, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(endpoints, name="endpoints")
app.add_typer(aws.app, name="aws")

DataDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept; ./data by default.", show_default=False)
]
JobId = Annotated[str, typer.Argument(help="The Inference ID.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where the PNG goes.")]
Where = Annotated[str | None, typer.Option("--endpoint", help="Where to paint.", show_default="this machine")]
Others = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Any other field of a generation by its REST name, such as hires.scale=2 or options.eta=0.5.",
    ),
]
EndpointName = Annotated[str, typer.Argument(help="The endpoint's name.")]


@app.command()
def serve(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes any free one.", show_default="7860")] = None,
    studio: Annotated[bool, typer.Option(help="Serve the web page beside the REST API.")] = True,
) -> None:
    """Start the studio: control plane, dispatcher and web page in one process."""
    from cloudbrush.cli import serving

    serving.serve(serving.settings(data_dir, host=host, port=port), studio=studio)


@app.command()
def txt2img(
    prompt: Annotated[str | None, typer.Argument(help="What to paint.", show_default=False)] = None,
    output: Output = Path("out.png"),
    negative_prompt: Annotated[str | None, typer.Option("-n", help="What not to paint.")] = None,
    like: Annotated[
        Path | None,
        typer.Option("--from", help="Paint again what an image or a text file with parameters tells."),
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="See `cloudbrush models`.")] = None,
    vae: Annotated[
        str | None, typer.Option(help="A VAE file, Automatic or None.", show_default="Automatic")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampling method.", show_default="DPM++ 2M")] = None,
    schedule: Annotated[str | None, typer.Option(help="Schedule type.", show_default="Automatic")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="20")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.", show_default="the checkpoint's own")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.", show_default="the checkpoint's own")] = None,
    batch_count: Annotated[int | None, typer.Option(help="Batches, one after the other.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time.")] = None,
    cfg_scale: Annotated[float | None, typer.Option(help="How closely to follow the prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed paints the same image.")] = None,
    others: Others = None,
    endpoint: Where = None,
    data_dir: DataDir = None,
) -> None:
    """Paint images from text."""
    from cloudbrush.cli import painting

    asked = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "checkpoint": checkpoint,
        "vae": vae,
        "sampler": sampler,
        "schedule": schedule,
        "steps": steps,
        "width": width,
        "height": height,
        "batch_count": batch_count,
        "batch_size": batch_size,
        "cfg_scale": cfg_scale,
        "seed": seed,
    }
    painting.txt2img(asked, others or [], like=like, output=output, endpoint=endpoint, data_dir=data_dir)


@app.command()
def img2img(
    image: Annotated[Path, typer.Argument(help="What to paint over: a PNG, JPEG or WebP file.")],
    prompt: Annotated[str, typer.Argument(help="What to paint.")] = "",
    output: Output = Path("out.png"),
    negative_prompt: Annotated[str | None, typer.Option("-n", help="What not to paint.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Paint only where this image is white.")] = None,
    denoising_strength: Annotated[
        float | None,
        typer.Option("--denoising", help="0 keeps the image, 1 forgets it.", show_default="0.75"),
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="See `cloudbrush models`.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampling method.", show_default="DPM++ 2M")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="20")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed paints the same image.")] = None,
    others: Others = None,
    endpoint: Where = None,
    data_dir: DataDir = None,
) -> None:
    """Paint over an image."""
    from cloudbrush.cli import painting

    asked = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "denoising_strength": denoising_strength,
        "checkpoint": checkpoint,
        "sampler": sampler,
        "steps": steps,
        "seed": seed,
    }
    painting.img2img(
        asked, others or [], image=image, mask=mask, output=output, endpoint=endpoint, data_dir=data_dir
    )


class ContainerCommand(StrEnum):
    """The word SageMaker starts a container with."""

    SERVE = "serve"


@app.command()
def worker(
    _word: Annotated[ContainerCommand, typer.Argument(hidden=True)] = ContainerCommand.SERVE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="0 takes any free one.", envvar="SAGEMAKER_BIND_TO_PORT", show_envvar=False)
    ] = 8080,
    blobs_url: Annotated[str | None, typer.Option(help="Blob store of models and images.")] = None,
    exit_with_parent: Annotated[bool, typer.Option(help="End when standard input ends.")] = False,
) -> None:
    """Run one worker: an engine behind GET /ping and POST /invocations, as a container runs it."""
    from cloudbrush.cli import working

    working.worker(host, port, blobs_url=blobs_url, exit_with_parent=exit_with_parent)


@jobs.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10, data_dir: DataDir = None
) -> None:
    """List the latest jobs, newest first."""
    from cloudbrush.cli import listing

    listing.jobs(limit, data_dir)


@jobs.command("show")
def show_job(job_id: JobId, data_dir: DataDir = None) -> None:
    """Show one job with everything that is known of it, as JSON."""
    from cloudbrush.cli import listing

    listing.job(job_id, data_dir)


@jobs.command("save")
def save_job(
    job_id: JobId,
    output: Output = Path("out.png"),
    data_dir: DataDir = None,
) -> None:
    """Follow a job until it is finished and save its images."""
    from cloudbrush.cli import painting

    painting.save(job_id, output=output, data_dir=data_dir)


@jobs.command("cancel")
def cancel_job(job_id: JobId, data_dir: DataDir = None) -> None:
    """Call a job off."""
    from cloudbrush.cli import listing

    listing.cancel(job_id, data_dir)


@jobs.command("delete")
def delete_job(job_id: JobId, data_dir: DataDir = None) -> None:
    """Forget a finished job and its images."""
    from cloudbrush.cli import listing

    listing.delete(job_id, data_dir)


@endpoints.command("list")
def list_endpoints(data_dir: DataDir = None) -> None:
    """List the endpoints and their states."""
    from cloudbrush.cli import listing

    listing.endpoints(data_dir)


@endpoints.command("deploy")
def deploy_endpoint(
    name: EndpointName,
    provider: Annotated[str, typer.Option(help="Where its workers live.")] = "local",
    instances: Annotated[int, typer.Option(help="Workers; 0 starts one when first needed.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Jobs a worker runs at once.")] = 4,
    kind: Annotated[str | None, typer.Option(help="In the cloud: async or realtime.")] = None,
    instance_type: Annotated[str | None, typer.Option(help="In the cloud: such as ml.g5.2xlarge.")] = None,
    max_instances: Annotated[int | None, typer.Option(help="In the cloud: the most it grows to.")] = None,
    autoscaling: Annotated[
        bool | None,
        typer.Option("--autoscaling/--no-autoscaling", help="In the cloud: grow and shrink by itself."),
    ] = None,
    scale_in_minutes: Annotated[
        int | None, typer.Option(help="In the cloud: idle minutes before instances go.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Bring up an endpoint in the running studio."""
    from cloudbrush.cli import listing

    spec = {
        "name": name,
        "provider": provider,
        "min_instances": instances,
        "concurrency": concurrency,
        "kind": kind,
        "instance_type": instance_type,
        "max_instances": max_instances,
        "autoscaling": autoscaling,
        "scale_in_minutes": scale_in_minutes,
    }
    listing.deploy(spec, data_dir)


@endpoints.command("resize")
def resize_endpoint(
    name: EndpointName,
    instances: Annotated[int | None, typer.Option(help="Workers, or the fewest of them.")] = None,
    max_instances: Annotated[int | None, typer.Option(help="In the cloud: the most it grows to.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Change how many instances an endpoint has."""
    from cloudbrush.cli import listing

    listing.resize_endpoint(name, instances, max_instances, data_dir)


@endpoints.command("delete")
def delete_endpoint(name: EndpointName, data_dir: DataDir = None) -> None:
    """Take an endpoint down; its unfinished jobs are cancelled."""
    from cloudbrush.cli import listing

    listing.delete_endpoint(name, data_dir)


def main() -> None:
    """Run the command line."""
    app()
