"""Ready-made domain objects and doubles that many tests need."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.invocation import (
    Finished,
    ImagePainted,
    ImageResult,
    Invocation,
    Progress,
    WorkerEvent,
)
from cloudbrush.domain.job import Job

START = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def new_id() -> str:
    """An id of a UUIDv7's form; later ones sort after earlier ones."""
    return f"{next(_numbers):08x}-0000-7000-8000-000000000000"


def generation(**changes: Any) -> Txt2Img:
    """A complete generation."""
    fields = {
        "prompt": "a red circle",
        "checkpoint": "pocket",
        "width": 128,
        "height": 128,
        "seed": 1,
        "vae": None,
    }
    return Txt2Img(**{**fields, **changes})


def job(**changes: Any) -> Job:
    """A queued job."""
    fields = {
        "id": new_id(),
        "owner": "ann",
        "endpoint": "pocket",
        "generation": generation(),
        "created_at": START,
    }
    return Job(**{**fields, **changes})


def image(job_id: str, epoch: int = 1, index: int = 0) -> ImageResult:
    """A painted image of the job."""
    key = f"jobs/{job_id}/{epoch}/{index}.png"
    return ImageResult(
        index=index, key=key, seed=1 + index, width=128, height=128, sha256="0" * 64, infotext="a red circle"
    )


def checkpoint(name: str = "pocket") -> ModelAsset:
    """A catalogued checkpoint."""
    sha256 = name.encode().hex().ljust(64, "0")[:64]
    return ModelAsset(
        kind=AssetKind.CHECKPOINT, name=name, sha256=sha256, size=1, family="sd1", native_size=128
    )


async def paints_one_image(invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
    """What a healthy worker says about a job of one image."""
    painted = image(invocation.job_id, invocation.epoch)
    yield Progress(step=1, steps=1)
    yield ImagePainted(image=painted)
    yield Finished(images=(painted,))


@dataclass
class FakeClock:
    """A clock that moves when told."""

    time: datetime = field(default=START)

    def __call__(self) -> datetime:
        return self.time

    def pass_time(self, **amount: float) -> None:
        self.time += timedelta(**amount)
