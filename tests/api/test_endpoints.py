"""/api/v1/endpoints, /models, /health as a program sees them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
import pytest

from cloudbrush.control.endpoints import EndpointKeeper
from cloudbrush.domain.job import JobState
from tests.world import DEADLINE, World


async def test_deploying_answers_202_creating(http: httpx.AsyncClient) -> None:
    answer = await http.post("/endpoints", json={"name": "gpu", "provider": "fake"})
    assert (answer.status_code, answer.json()["state"]) == (202, "Creating")
    names = [endpoint["spec"]["name"] for endpoint in (await http.get("/endpoints")).json()]
    assert set(names) == {"gpu", "pocket"}


@pytest.mark.parametrize(
    ("spec", "status", "field"),
    [
        ({"name": "pocket", "provider": "fake"}, 409, "name"),
        ({"name": "../etc", "provider": "fake"}, 422, "name"),
        ({"name": "x", "provider": "moon"}, 422, "provider"),
        ({"name": "x", "provider": "fake", "concurrency": 0}, 422, "concurrency"),
    ],
)
async def test_wrong_specs_are_refused_by_name(
    http: httpx.AsyncClient, spec: dict[str, object], status: int, field: str
) -> None:
    answer = await http.post("/endpoints", json=spec)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_a_deleted_endpoint_goes_and_its_jobs_say_why(http: httpx.AsyncClient, world: World) -> None:
    job = world.submit()
    keeper = EndpointKeeper(world.plane, first=(), only=frozenset({"pocket"}))
    await keeper.start()
    keeping = asyncio.create_task(keeper.run())
    answer = await http.delete("/endpoints/pocket")
    assert (answer.status_code, answer.json()["state"]) == (202, "Deleting")
    cancelled = await world.until(job.id, JobState.CANCELLED)
    assert cancelled.problem is not None
    assert cancelled.problem.code == "endpoint_deleted"
    async with asyncio.timeout(DEADLINE):
        while (await http.get("/endpoints/pocket")).status_code != 404:
            await asyncio.sleep(0)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def test_models_are_listed_by_kind(http: httpx.AsyncClient, world: World) -> None:
    assert (await http.get("/models", params={"kind": "brush"})).status_code == 422


async def test_a_foreign_name_for_this_machine_gets_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get("/jobs", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "jobs" not in answer.text


async def test_health_and_readiness(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json()["status"] == "ok"
    assert (await http.get("/ready")).json()["status"] == "ok"
