"""Asking again when AWS is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from cloudbrush.domain.errors import Unavailable
from cloudbrush.domain.invocation import HEARTBEAT_SECONDS

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)  # seconds; botocore has tried thrice before each
Answer = TypeVar("Answer")


async def patiently(question: Callable[[], Awaitable[Answer]]) -> AsyncGenerator[Answer | None]:
    """None as a sign of life now and then, at last the answer. Raises what the last question raised."""
    asking = asyncio.ensure_future(_asked(question))
    try:
        while not asking.done():
            await asyncio.wait({asking}, timeout=HEARTBEAT_SECONDS)
            if not asking.done():
                yield None
        yield asking.result()
    finally:
        asking.cancel()


async def _asked(question: Callable[[], Awaitable[Answer]]) -> Answer:
    for pause in PAUSES:
        try:
            return await question()
        except Unavailable:
            await asyncio.sleep(pause)
    return await question()
