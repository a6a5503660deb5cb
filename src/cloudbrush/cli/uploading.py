"""What `cloudbrush models upload` does, and how it tells."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cloudbrush.cli.console import complaints, console, log_to_stderr, speaking_errors
from cloudbrush.cli.fields import asset_kind
from cloudbrush.cli.serving import settings
from cloudbrush.control import assets
from cloudbrush.control.cloud_models import CloudModels
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.wiring import cloud_models, models_dirs


def upload(wanted: list[str], kind: str | None, data_dir: Path | None) -> None:
    """Check every model first, then send them one after the other, each in parts side by side."""
    log_to_stderr(logging.WARNING)
    with speaking_errors():
        chosen = settings(data_dir)
        cloud = cloud_models(chosen)
        found = [_located(name, asset_kind(kind), models_dirs(chosen)) for name in wanted]
        for model, path in found:
            _send(cloud, model, path)


def _located(wanted: str, kind: AssetKind | None, folders: tuple[Path, ...]) -> tuple[AssetKind, Path]:
    try:
        return assets.locate(wanted, kind, folders)
    except ModelFileError as error:
        raise ModelFileError(f"{wanted}: {error.detail}", hint=error.hint) from error


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=complaints,  # standard output is for what came of it
        transient=True,
    )


def _send(cloud: CloudModels, kind: AssetKind, path: Path) -> None:
    with _progress() as progress:
        task = progress.add_task(f"reading {escape(path.name)}", total=None)
        model = assets.read(kind, path)
        progress.update(task, description=f"sending {escape(model.name)}", total=model.size)
        sent = cloud.add(model, path, lambda done: progress.update(task, completed=done))
    console.print(_told(model, sent), soft_wrap=True)


def _told(model: ModelAsset, sent: bool) -> str:
    shown = escape(model.model_copy(update={"in_cloud": True}).shown_name)
    what = "is in the cloud" if sent else "was in the cloud already"
    return f"{model.kind} [bold]{shown}[/] {what} ({model.size / 2**20:.1f} MiB, {model.short_hash})"
