"""The REST application over the scripted control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext  # the work behind the routes is started by tests that want it

import httpx
import pytest

from cloudbrush.api.app import create_app
from tests.world import World


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to /api/v1."""
    app = create_app(world.plane, nullcontext())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1") as client:
        yield client
