"""What every provider must do. The local one and SageMaker's stand-in run real worker processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloudbrush.control import assets
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.endpoint import EndpointKind, EndpointSpec, EndpointState
from cloudbrush.domain.errors import NotFound, WorkerLost
from cloudbrush.domain.invocation import AssetRef, Failed, Finished, Invocation, Progress
from cloudbrush.providers.base import Provider
from cloudbrush.providers.fake import FakeProvider, LastingFakeProvider
from cloudbrush.providers.local import LocalProvider
from cloudbrush.providers.sagemaker import hearing, hosting
from cloudbrush.stores.base import Stores
from cloudbrush.stores.blobs import Blobs
from cloudbrush.testing.sagemaker import SageMaker
from cloudbrush.wiring import BUILTIN_MODELS, Everything
from tests import builders, faulty
from tests.providers.sagemaker.cloud import Cloud

START_LIMIT = 120.0  # seconds a real worker may take on a busy machine


@dataclass
class Place:
    """A provider with one endpoint in service, and the blob store its workers share."""

    provider: Provider
    blobs: Blobs
    asset: AssetRef
    logs_dir: Path
    spec: EndpointSpec

    def invocation(self, **changes: Any) -> Invocation:
        generation = builders.generation(**{"steps": 2, **changes})
        return Invocation(job_id=builders.new_id(), epoch=1, generation=generation, assets=(self.asset,))

    async def until(self, name: str, state: EndpointState, instances: int = 0) -> None:
        async with asyncio.timeout(START_LIMIT):
            changed = asyncio.Event()
            self.provider.watch(lambda _name: changed.set())
            while True:
                seen = await self.provider.describe(name)
                if seen.state is state and seen.instances >= instances:
                    return
                await changed.wait()
                changed.clear()


@pytest.fixture
def sagemaker(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An AWS account whose instances run the real worker."""
    monkeypatch.setattr(hosting, "LOOK_AGAIN", 0.05)
    monkeypatch.setattr(hearing, "REPORTS", 0.05)  # an attempt here takes less than a second
    command = (sys.executable, "-m", "cloudbrush", "worker", "--host", "127.0.0.1", "--port", "{port}")
    with faulty.before(aws) as proxy, SageMaker(command) as standin:
        for name, value in standin.environment.items():
            monkeypatch.setenv(name, value)
        yield Cloud.open(standin, proxy, tmp_path)


@pytest.fixture(params=["fake", "lasting fake", "local", "sagemaker async", "sagemaker realtime"])
async def place(request: pytest.FixtureRequest, tmp_path: Path, stores: Stores) -> AsyncIterator[Place]:
    kind, _, endpoint_kind = request.param.partition(" ")
    cloud: Any = request.getfixturevalue("sagemaker") if kind == "sagemaker" else None
    blobs = cloud.blobs if cloud else Blobs((tmp_path / "blobs").as_uri())
    plane = ControlPlane(
        stores=Stores(**{**vars(stores), "blobs": blobs}), providers={}, models_dirs=(BUILTIN_MODELS,)
    )
    assets.refresh(plane)
    found = stores.assets.get(AssetKind.CHECKPOINT, "pocket")
    asset = AssetRef(kind=found.kind, name=found.name, sha256=found.sha256, size=found.size, key=found.key)
    spec = EndpointSpec(name="here")
    if cloud:
        spec = EndpointSpec(name="here", provider="sagemaker", kind=EndpointKind(endpoint_kind))
        provider: Any = cloud.provider()
        provider.start()
        cloud.watched = Everything()  # steps are of interest here
        pocket = BUILTIN_MODELS / "Stable-diffusion" / "pocket.safetensors"
        await asyncio.to_thread(blobs.put, asset.key, pocket, replace=True)
    elif kind == "local":
        provider = LocalProvider(blobs_url=blobs.url, logs_dir=tmp_path / "logs")
    else:
        made = LastingFakeProvider if kind == "lasting" else FakeProvider
        provider = made(builders.paints_one_image)
    place = Place(provider, blobs, asset, tmp_path / "logs", spec)
    await provider.deploy(spec)
    await place.until("here", EndpointState.IN_SERVICE, instances=1)
    yield place
    await provider.delete("here")
    if hasattr(provider, "close"):
        await provider.close()


async def test_a_provider_in_service(place: Place) -> None:
    """One deployment, all of the contract: a real worker takes seconds to start."""
    await an_attempt_ends_with_its_result(place)
    await what_cannot_be_painted_is_told(place)
    await attempts_run_side_by_side(place)
    await deploying_again_changes_nothing(place)
    await an_unknown_endpoint_is_not_found(place)
    await a_deleted_endpoint_is_gone_with_its_workers(place)


async def an_attempt_ends_with_its_result(place: Place) -> None:
    invocation = place.invocation()
    events = [event async for event in place.provider.invoke("here", invocation)]
    assert isinstance(events[-1], Finished)
    assert [image.key for image in events[-1].images] == [f"{invocation.output_prefix}/0.png"]
    assert any(isinstance(event, Progress) for event in events)


async def what_cannot_be_painted_is_told(place: Place) -> None:
    if isinstance(place.provider, FakeProvider):
        return
    gone = place.asset.model_copy(update={"sha256": "0" * 64, "key": f"models/{'0' * 64}.safetensors"})
    invocation = place.invocation().model_copy(update={"assets": (gone,)})
    events = [event async for event in place.provider.invoke("here", invocation)]
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "not_found"


async def attempts_run_side_by_side(place: Place) -> None:
    async def last(invocation: Invocation) -> Any:
        return [event async for event in place.provider.invoke("here", invocation)][-1]

    ends = await asyncio.gather(*(last(place.invocation(seed=seed)) for seed in range(4)))
    assert all(isinstance(end, Finished) for end in ends)


async def deploying_again_changes_nothing(place: Place) -> None:
    await place.provider.deploy(place.spec)
    assert (await place.provider.describe("here")).state is EndpointState.IN_SERVICE


async def an_unknown_endpoint_is_not_found(place: Place) -> None:
    with pytest.raises(NotFound):
        await place.provider.describe("nowhere")
    with pytest.raises(NotFound):
        await anext(place.provider.invoke("nowhere", place.invocation()))
    await place.provider.delete("nowhere")


async def a_deleted_endpoint_is_gone_with_its_workers(place: Place) -> None:
    workers = _workers()
    await place.provider.delete("here")
    with pytest.raises(NotFound):
        await place.provider.describe("here")
    assert not [worker for worker in workers if worker.is_running()]


@pytest.mark.parametrize("place", ["local"], indirect=True)
async def test_local_workers_are_watched(place: Place) -> None:
    """Again one deployment for all: what only processes can do wrong."""
    await closing_the_stream_stops_the_attempt(place)
    await a_worker_that_dies_is_replaced(place)
    await a_worker_that_hangs_is_replaced(place)


async def closing_the_stream_stops_the_attempt(place: Place) -> None:
    long = place.invocation(steps=150, batch_count=100)
    async with aclosing(place.provider.invoke("here", long)) as events:
        async for event in events:
            if isinstance(event, Progress):
                break
    # A worker that went on would be busy for minutes; this one rests as soon as its step is over.
    (worker,) = _workers()
    async with asyncio.timeout(START_LIMIT):
        while not await _rests(worker):
            pass


async def a_worker_that_dies_is_replaced(place: Place) -> None:
    (worker,) = _workers()
    with pytest.raises(WorkerLost, match="died"):
        await _meddle(place, worker.kill)
    events = [event async for event in place.provider.invoke("here", place.invocation())]
    assert isinstance(events[-1], Finished)
    assert worker not in _workers()


async def a_worker_that_hangs_is_replaced(place: Place) -> None:
    """Also: an endpoint that is scaled to zero starts a worker when first needed."""
    before = set(_workers())
    hasty = LocalProvider(blobs_url=place.blobs.url, logs_dir=place.logs_dir, silence=1.0)
    other = Place(hasty, place.blobs, place.asset, place.logs_dir, EndpointSpec(name="here", min_instances=0))
    await hasty.deploy(other.spec)
    assert (await hasty.describe("here")).state is EndpointState.IN_SERVICE
    assert set(_workers()) == before
    with pytest.raises(WorkerLost, match="silent"):
        await _meddle(other, lambda: next(iter(set(_workers()) - before)).suspend())
    await other.until("here", EndpointState.IN_SERVICE, instances=1)
    await hasty.close()
    assert set(_workers()) == before


async def _meddle(place: Place, meddle: Callable[[], None]) -> None:
    """Run a long attempt and meddle with it once it takes steps."""
    async for event in place.provider.invoke("here", place.invocation(steps=150)):
        if isinstance(event, Progress):
            meddle()


async def test_a_worker_that_cannot_start_fails_its_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.providers.local.RESTART_PAUSE", 0.0)
    provider = LocalProvider(blobs_url="nonsense://", logs_dir=tmp_path)
    monkeypatch.setattr("sys.executable", "/bin/false")
    await provider.deploy(EndpointSpec(name="broken"))
    place = Place(provider, Blobs("memory:///"), None, tmp_path, None)  # type: ignore[arg-type]
    await place.until("broken", EndpointState.FAILED)
    seen = await provider.describe("broken")
    assert seen.state is EndpointState.FAILED
    assert seen.failure_reason is not None
    assert "worker-broken-0.log" in seen.failure_reason
    await provider.close()


async def _rests(worker: psutil.Process) -> bool:
    """Whether the process used next to no processor time for a while."""
    before = worker.cpu_times()
    await asyncio.sleep(0.5)
    after = worker.cpu_times()
    return (after.user + after.system) - (before.user + before.system) < 0.1


def _workers() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    return [child for child in children if "worker" in child.cmdline()]
