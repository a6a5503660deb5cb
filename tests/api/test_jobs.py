"""/api/v1/jobs as a program sees it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from cloudbrush.domain.endpoint import EndpointState
from cloudbrush.domain.job import JobState
from tests import builders
from tests.world import World

ASK = {"generation": {"prompt": "a red circle"}, "endpoint": "pocket"}


async def test_submitting_answers_202_with_the_stored_job(http: httpx.AsyncClient, world: World) -> None:
    answer = await http.post("/jobs", json=ASK)
    assert answer.status_code == 202
    body = answer.json()
    assert body["state"] == "queued"
    assert world.job(body["id"]).generation.prompt == "a red circle"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 0}, "generation.steps"),
        ({"steps": 151}, "generation.steps"),
        ({"steps": "many"}, "generation.steps"),
        ({"width": 100}, "generation.width"),
        ({"height": 4096}, "generation.height"),
        ({"sampler": "Magic"}, "generation.sampler"),
        ({"schedule": "Magic"}, "generation.schedule"),
        ({"batch_size": 9}, "generation.batch_size"),
        ({"batch_count": 101}, "generation.batch_count"),
        ({"cfg_scale": 0.5}, "generation.cfg_scale"),
        ({"seed": -2}, "generation.seed"),
        ({"seed": 2**53}, "generation.seed"),
        ({"prompt": "nul \x00"}, "generation.prompt"),
        ({"prompt": "x" * 20_001}, "generation.prompt"),
        ({"colour": "red"}, "generation.colour"),
        ({"checkpoint": "dreamy"}, "checkpoint"),
    ],
)
async def test_wrong_values_are_refused_by_name(
    http: httpx.AsyncClient, change: dict[str, object], field: str
) -> None:
    answer = await http.post("/jobs", json={**ASK, "generation": {"prompt": "x", **change}})
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert set(answer.json()) == {"code", "detail", "field", "hint"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"generation": "\\ud800"}', b"[" * 10_000, b'{"generation": NaN}']
)
async def test_bodies_that_are_no_request_are_refused(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"code", "detail", "field", "hint"}


async def test_an_endpoint_that_is_not_in_service_is_409_and_nothing_is_stored(
    http: httpx.AsyncClient, world: World
) -> None:
    endpoint = world.plane.stores.endpoints.get("pocket")
    world.plane.stores.endpoints.change(endpoint.evolved(world.clock(), state=EndpointState.CREATING))
    answer = await http.post("/jobs", json=ASK)
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_not_ready")
    assert (await http.get("/jobs")).json()["jobs"] == []


async def test_one_idempotency_key_makes_one_job(http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "the-key"}
    answers = await asyncio.gather(*(http.post("/jobs", json=ASK, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await http.post("/jobs", json={**ASK, "generation": {"prompt": "else"}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_the_list_pages_and_filters(http: httpx.AsyncClient) -> None:
    ids = [(await http.post("/jobs", json=ASK)).json()["id"] for _ in range(3)]
    first = (await http.get("/jobs", params={"limit": 2})).json()
    rest = (await http.get("/jobs", params={"limit": 2, "cursor": first["cursor"]})).json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["cursor"] is None
    await http.post(f"/jobs/{ids[0]}/cancel")
    cancelled = (await http.get("/jobs", params={"state": ["cancelled", "failed"]})).json()
    assert [job["id"] for job in cancelled["jobs"]] == [ids[0]]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"state": "lost"}, {"colour": "red"}, {"created_from": "soon"}]
)
async def test_wrong_filters_are_refused(http: httpx.AsyncClient, params: dict[str, object]) -> None:
    assert (await http.get("/jobs", params=params)).status_code == 422


async def test_cancel_and_delete(http: httpx.AsyncClient) -> None:
    job_id = (await http.post("/jobs", json=ASK)).json()["id"]
    too_early = await http.delete(f"/jobs/{job_id}")
    assert (too_early.status_code, too_early.json()["hint"]) == (409, "Cancel it first.")
    for _ in range(2):
        assert (await http.post(f"/jobs/{job_id}/cancel")).json()["state"] == "cancelled"
    assert (await http.delete(f"/jobs/{job_id}")).status_code == 204
    assert (await http.get(f"/jobs/{job_id}")).status_code == 404


async def test_events_are_numbered_and_resume_where_asked(http: httpx.AsyncClient, world: World) -> None:
    job_id = (await http.post("/jobs", json=ASK)).json()["id"]
    async with world.dispatching(builders.paints_one_image):
        await world.until(job_id, JobState.SUCCEEDED)
    whole = _events((await http.get(f"/jobs/{job_id}/events")).text)
    assert [event["kind"] for event in whole] == ["queued", "started", "image", "finished"]
    last = whole[-2]["seq"]
    rest = _events((await http.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)})).text)
    assert rest == whole[-1:]


async def test_an_image_is_the_png_that_was_painted(http: httpx.AsyncClient, world: World) -> None:
    job_id = (await http.post("/jobs", json=ASK)).json()["id"]
    world.plane.stores.blobs.put(f"jobs/{job_id}/1/0.png", b"\x89PNG")
    assert (await http.get(f"/jobs/{job_id}/images/0")).status_code == 404
    async with world.dispatching(builders.paints_one_image):
        await world.until(job_id, JobState.SUCCEEDED)
    answer = await http.get(f"/jobs/{job_id}/images/0")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert (await http.get(f"/jobs/{job_id}/images/1")).status_code == 404


async def test_unknown_ids_are_404_in_the_one_form(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.get("/jobs/none"),
        await http.post("/jobs/none/cancel"),
        await http.delete("/jobs/none"),
        await http.get("/jobs/none/events"),
        await http.get("/jobs/none/images/0"),
        await http.get("/endpoints/none"),
        await http.delete("/endpoints/none"),
        await http.get("/nothing/here"),
    ):
        assert answer.status_code == 404
        assert set(answer.json()) == {"code", "detail", "field", "hint"}


async def test_an_error_nobody_expected_says_nothing_of_the_inside(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(world.plane.stores.jobs, "get", breaks)
    answer = await http.get("/jobs/x")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def _events(text: str) -> list[dict[str, object]]:
    return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
