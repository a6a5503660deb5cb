"""A sign of life of a control plane."""

from __future__ import annotations

from pydantic import BaseModel

from cloudbrush import __version__


class Health(BaseModel):
    """It answers; and where it can deploy endpoints."""

    status: str = "ok"
    version: str = __version__
    providers: tuple[str, ...] = ()
