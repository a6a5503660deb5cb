"""`cloudbrush aws` as a person types it."""

from __future__ import annotations

from dataclasses import dataclass

from typer.testing import CliRunner

from cloudbrush.cli.app import app
from tests.deploy.conftest import REGION


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed on both outputs."""

    status: int
    text: str


def run(*words: str, answers: str | None = None) -> Said:
    """Run `cloudbrush aws`; `answers` is what a person types."""
    result = CliRunner().invoke(app, ["aws", *words], input=answers)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, result.output)


def up(*words: str) -> Said:
    """`cloudbrush aws up` without questions; it has to succeed."""
    said = run("up", "--yes", "--region", REGION, *words)
    assert said.status == 0, said.text
    return said
