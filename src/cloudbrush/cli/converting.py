"""`models convert`: model files in old formats become safetensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from cloudbrush.cli.console import complaints, console, speaking_errors
from cloudbrush.cli.fields import asset_kind
from cloudbrush.conversion import old_files
from cloudbrush.conversion.converting import convert as converted
from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import CloudbrushError, NotFound


def convert(paths: Sequence[Path], to: Path | None, kind: str | None) -> None:
    """Convert each file, and each that waits in a folder; one that is refused does not stop the others."""
    with speaking_errors():
        expected = asset_kind(kind)
        sources = [source for path in paths for source in _sources(path)]
    if not sources:
        console.print("Nothing to convert: there is a .safetensors file beside each old one, or no old one.")
    refused = [source for source in sources if not _one(source, to or source.parent, expected)]
    if refused:
        sys.exit(1)


def _sources(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise NotFound(f"{path} is not there")
    if path.is_dir():
        yield from old_files.waiting(path)
    else:
        yield path


def _one(source: Path, folder: Path, kind: AssetKind | None) -> bool:
    """Whether the file could be converted; says so, or why not."""
    target = folder / f"{source.stem}{old_files.NEW_SUFFIX}"
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console, transient=True
    )
    try:
        with bar:
            task = bar.add_task(escape(source.name), total=None)
            info = converted(source, target, kind, partial(_show, bar, task))
    except CloudbrushError as error:
        complaints.print(f"[bold red]refused[/] {escape(error.detail)}", soft_wrap=True)
        if error.hint:
            complaints.print(f"        {escape(error.hint)}", soft_wrap=True)
        return False
    console.print(f"{escape(str(target))}: {info.kind.phrase}", soft_wrap=True)
    return True


def _show(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total or None)
