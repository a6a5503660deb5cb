"""/api/v1/endpoints, /models, /health as a program sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from cloudbrush.control.endpoints import EndpointKeeper
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec, EndpointState
from cloudbrush.domain.errors import Conflict
from cloudbrush.domain.job import JobState
from cloudbrush.wiring import Everything
from tests.builders import START
from tests.control.test_assets import checkpoint
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
    keeper.stop()
    await keeping


async def test_an_endpoint_whose_provider_is_not_here_fails_and_says_so(world: World) -> None:
    elsewhere = EndpointSpec(name="far", provider="moon")
    keeper = EndpointKeeper(world.plane, first=(), only=Everything())
    world.plane.stores.endpoints.add(Endpoint(spec=elsewhere, created_at=START, changed_at=START))
    await keeper.start()
    seen = world.plane.stores.endpoints.get("far")
    assert seen.state is EndpointState.FAILED
    assert seen.failure_reason is not None
    assert "moon" in seen.failure_reason


async def test_an_endpoint_that_someone_else_deleted_goes_and_its_jobs_say_why(world: World) -> None:
    keeper = EndpointKeeper(world.plane, first=(), only=Everything())
    await keeper.start()
    job = world.submit()
    keeping = asyncio.create_task(keeper.run())
    await world.provider.delete("pocket")
    cancelled = await world.until(job.id, JobState.CANCELLED)
    assert cancelled.problem is not None
    assert cancelled.problem.code == "endpoint_deleted"
    async with asyncio.timeout(DEADLINE):
        while world.plane.stores.endpoints.all():
            await asyncio.sleep(0)
    keeper.stop()
    await keeping


async def test_what_a_provider_refuses_to_deploy_is_told_and_not_kept(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(_spec: EndpointSpec) -> None:
        raise Conflict("the quota is used up", field="instance_type", hint="Ask for more.")

    monkeypatch.setattr(world.provider, "deploy", refuses)
    answer = await http.post("/endpoints", json={"name": "gpu", "provider": "fake"})
    assert (answer.status_code, answer.json()["field"]) == (409, "instance_type")
    assert (await http.get("/endpoints/gpu")).status_code == 404


async def test_an_endpoint_gets_more_instances(http: httpx.AsyncClient, world: World) -> None:
    answer = await http.patch("/endpoints/pocket", json={"min_instances": 3})
    assert (answer.status_code, answer.json()["spec"]["min_instances"]) == (202, 3)
    assert (await world.provider.describe("pocket")).instances == 3


@pytest.mark.parametrize(
    ("size", "status", "field"),
    [
        ({"max_instances": 2}, 422, "max_instances"),  # for rented endpoints only
        ({"min_instances": 99}, 422, "min_instances"),
        ({"instances": 2}, 422, "instances"),
    ],
)
async def test_wrong_sizes_are_refused_by_name(
    http: httpx.AsyncClient, size: dict[str, int], status: int, field: str
) -> None:
    answer = await http.patch("/endpoints/pocket", json=size)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_an_endpoint_that_is_not_up_keeps_its_size(http: httpx.AsyncClient, world: World) -> None:
    endpoint = world.plane.stores.endpoints.get("pocket")
    world.plane.stores.endpoints.change(endpoint.evolved(world.clock(), state=EndpointState.CREATING))
    answer = await http.patch("/endpoints/pocket", json={"min_instances": 3})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_a_deleted_endpoint_does_not_come_back_by_itself(world: World) -> None:
    first = (EndpointSpec(name="pocket", provider="fake"), EndpointSpec(name="other", provider="fake"))
    await EndpointKeeper(world.plane, first=first, only=Everything()).start()
    assert [endpoint.name for endpoint in world.plane.stores.endpoints.all()] == ["pocket"]


async def test_the_endpoint_of_jobs_without_one_cannot_be_deleted(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/endpoints/this-machine")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_models_are_listed_by_kind(http: httpx.AsyncClient, world: World, tmp_path: Path) -> None:
    object.__setattr__(world.plane, "models_dirs", (tmp_path,))
    checkpoint(tmp_path / "Stable-diffusion" / "one.safetensors")
    listed = (await http.get("/models", params={"kind": "checkpoint"})).json()
    assert [model["name"] for model in listed] == ["one"]
    assert str(tmp_path) not in str(listed)
    assert (await http.get("/models", params={"kind": "lora"})).json() == []
    assert (await http.get("/models", params={"kind": "brush"})).status_code == 422


async def test_a_foreign_name_for_this_machine_gets_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get("/jobs", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost.evil.example"},
    ],
)
async def test_a_foreign_web_page_can_change_nothing(
    http: httpx.AsyncClient, world: World, headers: dict[str, str]
) -> None:
    body = {"generation": {"prompt": "x"}, "endpoint": "pocket"}
    answer = await http.post("/jobs", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert (await http.post("/jobs", json=body, headers={"Origin": "http://localhost:7860"})).is_success


async def test_a_body_that_is_no_json_by_its_type_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/jobs", content=b'{"generation": {}}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422


async def test_an_endless_body_is_refused(http: httpx.AsyncClient) -> None:
    body = {"generation": {"prompt": "x" * 2**21}}
    answer = await http.post("/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_health_and_readiness(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/health")).json()
    assert (answer["status"], answer["providers"]) == ("ok", ["fake"])
    assert (await http.get("/ready")).json()["status"] == "ok"
