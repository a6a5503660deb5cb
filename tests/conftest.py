"""Fixtures every test may use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudbrush.cli.console import log_to_stderr
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec, EndpointState
from cloudbrush.providers.base import Observed
from cloudbrush.providers.fake import FakeProvider
from cloudbrush.stores.base import AssetSource, Stores
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.database import Database
from cloudbrush.stores.sql import SqlAssets, SqlEndpoints, SqlEvents, SqlJobs, SqlQueue, SqlRequests
from tests import builders, moto_server, postgres_server
from tests.builders import START, FakeClock
from tests.world import World


@pytest.fixture(autouse=True, scope="session")
def _logging() -> None:
    log_to_stderr()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    if postgres_server.binaries() is None:
        pytest.skip(postgres_server.MISSING)
    with postgres_server.running() as url:
        yield url


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """What stands for AWS: the URL of a moto server."""
    with moto_server.running() as url:
        yield url


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, with an environment in which boto3 finds it."""
    for name, value in moto_server.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    return moto


@pytest.fixture
def bucket(aws: str) -> str:
    """A new bucket there, as the URL of a blob store."""
    return f"s3://{moto_server.make_bucket(aws)}/some/where"


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    yield Stores(
        jobs=SqlJobs(database),
        requests=SqlRequests(database),
        events=SqlEvents(database),
        queue=SqlQueue(database),
        endpoints=SqlEndpoints(database),
        assets=SqlAssets(database),
        blobs=Blobs("memory:///"),
    )
    database.close()


@pytest.fixture
async def world(stores: Stores) -> World:
    clock = FakeClock()
    provider = FakeProvider()
    seeds: Callable[[], int] = itertools.count(1000).__next__
    plane = ControlPlane(
        stores=stores, providers={"fake": provider}, now=clock, new_id=builders.new_id, new_seed=seeds
    )
    spec = EndpointSpec(name="pocket", provider="fake", concurrency=2)
    stores.assets.put(AssetSource(builders.checkpoint(), Path("pocket.safetensors"), modified=1))
    stores.endpoints.add(
        Endpoint(spec=spec, state=EndpointState.IN_SERVICE, instances=1, created_at=START, changed_at=START)
    )
    provider.set("pocket", Observed(EndpointState.IN_SERVICE, instances=1))
    return World(plane, provider, clock)
