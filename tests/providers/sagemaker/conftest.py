"""One AWS account for each module of tests: a worker takes seconds to start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from cloudbrush.providers.sagemaker import SageMakerProvider, hosting
from cloudbrush.testing.sagemaker import SageMaker, VirtualClock
from tests import faulty, moto_server
from tests.providers.sagemaker.cloud import WORKER, Cloud


@pytest.fixture(scope="module")
def worker() -> tuple[str, ...]:
    """What instances run."""
    return WORKER


@pytest.fixture(scope="module")
def account(worker: tuple[str, ...], moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The account, SageMaker included; its time is moved by the tests."""
    with pytest.MonkeyPatch.context() as patch, faulty.before(moto) as proxy:
        patch.setattr(hosting, "LOOK_AGAIN", 0.05)
        for name, value in moto_server.ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with SageMaker(worker, clock=VirtualClock()) as standin:
            for name, value in standin.environment.items():
                patch.setenv(name, value)
            yield Cloud.open(standin, proxy, tmp_path_factory.mktemp("doors"))


@pytest.fixture
def cloud(account: Cloud) -> Iterator[Cloud]:
    """The account, in which nothing goes wrong that the test does not ask for."""
    yield account
    for door in account.doors:
        door.touch()  # so that no worker of a test that failed waits on
    account.controls.disarm()
    account.proxy.fault = lambda _asked: None
    account.over = True
    account.watched = frozenset()


@pytest.fixture
async def provider(cloud: Cloud) -> AsyncIterator[SageMakerProvider]:
    """The account's provider, listening."""
    provider = cloud.provider()
    provider.start()
    yield provider
    await provider.close()
