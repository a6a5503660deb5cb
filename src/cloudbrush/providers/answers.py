"""What a worker answered, read back."""

from __future__ import annotations

import json

from pydantic import ValidationError

from cloudbrush.domain.invocation import Failed


def failure(body: bytes) -> Failed | None:
    """The problem a worker answered with instead of a 200; None when a worker cannot have written this."""
    try:
        return Failed.model_validate({"kind": "failed", **json.loads(body)})
    except (ValueError, TypeError, ValidationError):
        return None
