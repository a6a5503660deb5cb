"""What the stand-in answers instead of a result.

Refused            an answer with an AWS error code and an HTTP status
Invalid            the request is wrong; each API has a code of its own for that
LaunchFailed       instances could not be had, or their containers did not become healthy
WorkerGone         a worker ended, or broke the connection, while it was working
"""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """An error answer: `code` and `status` as in the service model, `fields` beside the message."""

    def __init__(self, code: str, status: int, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.fields = fields


class Invalid(Exception):
    """The request is wrong: ValidationException of the control API, ValidationError of the runtime."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class LaunchFailed(Exception):
    """Instances did not come up; the text is what DescribeEndpoint shows as FailureReason."""


class WorkerGone(Exception):
    """The worker's process ended, or it closed the connection, before it had answered."""
