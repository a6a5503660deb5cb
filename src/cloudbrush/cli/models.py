"""`cloudbrush models`: its commands and their options. Nothing heavy is imported until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List the models in the catalogue, upload some to the cloud, convert old files.")
Kind = Annotated[
    str | None,
    typer.Option(
        help="checkpoint, vae, lora, hypernetwork, embedding or upscaler; others are refused.",
        show_default="what the file says it is",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept; ./data by default.", show_default=False)
]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, data_dir: DataDir = None) -> None:
    """List the models in the catalogue, upload some to the cloud, convert old files."""
    if context.invoked_subcommand is None:
        from cloudbrush.cli import listing

        listing.models(data_dir)


@app.command("list")
def list_models(data_dir: DataDir = None) -> None:
    """List the models in the catalogue, those in the cloud with the suffix [sagemaker]."""
    from cloudbrush.cli import listing

    listing.models(data_dir)


@app.command()
def upload(
    models: Annotated[
        list[str],
        typer.Argument(metavar="FILE|NAME...", help="Files, or names of models in the models folder."),
    ],
    kind: Kind = None,
    data_dir: DataDir = None,
) -> None:
    """Put models into the cloud, where endpoints there find them.

    What was cut off goes on when it is run again; what is there already is not sent.
    """
    from cloudbrush.cli import uploading

    uploading.upload(models, kind, data_dir)


@app.command()
def convert(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files, or folders with such files in them.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder of the new files.", show_default="beside the old ones")
    ] = None,
    kind: Kind = None,
) -> None:
    """Write .ckpt, .pt, .pth and .bin files as .safetensors, without running what they hold."""
    from cloudbrush.cli import converting

    converting.convert(paths, to, kind)
