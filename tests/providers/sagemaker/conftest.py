"""One AWS account for each test; its servers run as long as the tests do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudbrush.providers.sagemaker import SageMakerProvider, hosting
from cloudbrush.testing.sagemaker import SageMaker
from tests import faulty
from tests.providers.sagemaker.cloud import WORKER, Cloud


@dataclass
class MovedClock:
    """Real time, and what a test adds to it."""

    moved: float = 0.0  # seconds

    def __call__(self) -> float:
        return time.monotonic() + self.moved


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def cloud(
    aws: str, tmp_path: Path, clock: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """The account, SageMaker included."""
    monkeypatch.setattr(hosting, "LOOK_AGAIN", 0.05)
    with faulty.before(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with SageMaker(WORKER) as standin:
            for name, value in standin.environment.items():
                monkeypatch.setenv(name, value)
            yield Cloud.open(standin, proxy, tmp_path, clock)


@pytest.fixture
async def provider(cloud: Cloud) -> AsyncIterator[SageMakerProvider]:
    """The account's provider, listening."""
    provider = cloud.provider()
    provider.start()
    yield provider
    await provider.close()
