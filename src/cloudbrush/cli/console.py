"""What the command line prints, and how errors end a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from cloudbrush.domain.errors import CloudbrushError

console = Console(highlight=False)
wide_console = Console(width=1000, highlight=False)  # tables keep whole ids: they are there to be copied
complaints = Console(stderr=True, highlight=False)


@contextmanager
def speaking_errors() -> Iterator[None]:
    """End the command with status 1 and a readable message instead of a trace."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        _complain(f"{field}: {first['msg'].removeprefix('Value error, ')}", None)
    except CloudbrushError as error:
        _complain(f"{error.field}: {error.detail}" if error.field else error.detail, error.hint)
    except KeyboardInterrupt:
        complaints.print("stopped")
        sys.exit(130)


def _complain(detail: str, hint: str | None) -> None:
    complaints.print(f"[bold red]error[/] {escape(detail)}", soft_wrap=True)
    if hint:
        complaints.print(f"      {escape(hint)}", soft_wrap=True)
    sys.exit(1)


def log_to_stderr(level: int = logging.INFO) -> None:
    """One line per happening on standard error; standard output belongs to the command."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S", utc=False),
            # Plain traces: the decorated ones print local variables, prompts and settings among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
