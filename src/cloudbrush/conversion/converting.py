"""The calling side: each file is read by a process of its own; what it wrote is checked before it counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloudbrush.conversion.confinement import seconds
from cloudbrush.domain import model_file
from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import Conflict, ModelFileError
from cloudbrush.domain.model_file import ModelInfo

MAX_LINE = 10_000  # characters of a report
PATIENCE = 4  # times the seconds of computing, for slow disks
_HERE = Path(__file__).parents[2]  # isolated Python does not look where this very code may lie
_START = """import sys
if sys.argv[1] not in sys.path: sys.path.insert(0, sys.argv[1])
import cloudbrush.conversion.__main__"""
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def convert(source: Path, target: Path, kind: AssetKind | None, on_progress: Progress) -> ModelInfo:
    """Write the model in `source` to `target` as safetensors, and say what it is.

    `kind` says what it must be, also where the file does not tell. Raises `ModelFileError` for what is not
    converted, `Conflict` when `target` exists; then nothing was written.
    """
    if target.exists():
        raise Conflict(f"{target} is there already", hint="Move it away, or choose another folder with --to.")
    with _beside(target) as partial:
        try:
            with source.open("rb") as given, partial.open("r+b") as made:
                _run(given.fileno(), made.fileno(), os.fstat(given.fileno()).st_size, on_progress)
                os.fsync(made.fileno())
            info = _checked(partial, kind)
            shutil.copymode(source, partial)
        except OSError as error:
            raise ModelFileError(f"{source.name}: {error.strerror}") from error
        except ModelFileError as error:
            raise ModelFileError(f"{source.name}: {error.detail}", hint=error.hint) from error
        partial.replace(target)
    return info


def _run(given: int, made: int, size: int, on_progress: Progress) -> None:
    """Have the file read by a process that has nothing: no environment, no folder, no other file."""
    program = (sys.executable, "-I", "-B", "-c", _START, str(_HERE))
    needed = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows
    with tempfile.TemporaryDirectory() as nowhere:
        process = subprocess.Popen(
            program, stdin=given, stdout=made, stderr=subprocess.PIPE, cwd=nowhere, env=needed, text=True
        )
        alarm = threading.Timer(PATIENCE * seconds(size), process.kill)
        alarm.start()
        try:
            report = _follow(process, on_progress)
        finally:
            alarm.cancel()
            process.kill()
            process.communicate()
    if "refused" in report:
        raise ModelFileError(str(report["refused"]), hint=report.get("hint"))
    if "tensors" not in report:
        raise ModelFileError("it was not read: doing so took more memory or time than a model file needs")


def _follow(process: subprocess.Popen[str], on_progress: Progress) -> dict[str, Any]:
    """Everything the process told, the last word on each thing."""
    told: dict[str, Any] = {}
    assert process.stderr is not None
    while line := process.stderr.readline(MAX_LINE):
        with suppress(ValueError):
            told.update(json.loads(line))
        if "done" in told:
            on_progress(told["done"], told.get("total", 0))
    return told


def _checked(path: Path, kind: AssetKind | None) -> ModelInfo:
    """What the new file is; raises `ModelFileError` when it is not what it should be."""
    with path.open("rb") as file:
        header = model_file.read_header(file)
    try:
        info = model_file.inspect(header)
    except ModelFileError:
        if kind is None:
            raise
        return ModelInfo(kind)
    if kind is not None and kind is not info.kind:
        raise ModelFileError(
            f"it is {info.kind.phrase}; {kind.phrase} was expected", hint="Leave out --kind, or correct it."
        )
    return info


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty file in the target's folder, gone afterwards unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
