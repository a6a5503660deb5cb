"""What every use case works with, put together once by `wiring` (or by a test, with fakes)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

import uuid6

from cloudbrush.control.bells import Bells
from cloudbrush.control.cloud_models import CloudModels
from cloudbrush.domain.generation import RANDOM_SEEDS
from cloudbrush.providers.base import Provider
from cloudbrush.stores.base import Stores


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid6.uuid7())


def _new_seed() -> int:
    return random.randrange(RANDOM_SEEDS)


@dataclass(frozen=True)
class Limits:
    """How long things may take."""

    lease: timedelta = timedelta(seconds=30)
    run: timedelta = timedelta(minutes=15)
    queue: timedelta = timedelta(hours=6)
    patience: timedelta = timedelta(seconds=10)  # how long a job may be passed over for a warm checkpoint


@dataclass(frozen=True)
class ControlPlane:
    """The stores, the providers by name, and everything that would otherwise be a global."""

    stores: Stores
    providers: Mapping[str, Provider]
    models_dirs: tuple[Path, ...] = ()  # folders of model files, in the WebUI's layout
    cloud_models: CloudModels | None = None  # where the blob store is a bucket
    limits: Limits = Limits()
    bells: Bells = field(default_factory=Bells)
    cataloguing: Lock = field(default_factory=Lock)  # one at a time reads the model folders
    now: Callable[[], datetime] = _now
    new_id: Callable[[], str] = _new_id
    new_seed: Callable[[], int] = _new_seed
