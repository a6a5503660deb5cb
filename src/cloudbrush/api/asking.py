"""What every route needs to know of a request: the control plane it asks and who asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from cloudbrush.control.plane import ControlPlane

LOCAL_OWNER = "local"  # there are no accounts yet: everyone who reaches the loopback address is one person


def _plane(request: Request) -> ControlPlane:
    plane: ControlPlane = request.app.state.plane
    return plane


def _owner() -> str:
    return LOCAL_OWNER


Plane = Annotated[ControlPlane, Depends(_plane)]
Owner = Annotated[str, Depends(_owner)]
