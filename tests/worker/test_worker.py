"""The HTTP box around an engine; here the engine is scripted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import GenerationFailed, ModelFileError
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.invocation import (
    AssetRef,
    Delivery,
    Failed,
    Finished,
    ImagePainted,
    Invocation,
    Progress,
    Report,
    report_key,
    stop_key,
)
from cloudbrush.engine import Broke, Done, ImageReady, Models, StepTaken
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker import runner as runner_module
from cloudbrush.worker.app import create_app
from cloudbrush.worker.limit import LIMIT
from cloudbrush.worker.model_cache import ModelCache
from cloudbrush.worker.runner import Runner
from tests import builders

READY = ImageReady(index=0, png=b"\x89PNG", seed=1, infotext="a red circle", width=128, height=128)


class FakeEngine:
    """Says a list of events from a thread of its own, as the real one does."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.cancelled = threading.Event()
        self.given: Models | None = None

    def submit(self, generation: Txt2Img, models: Models, on_event: Callable[[Any], None]) -> str:
        self.given = models
        threading.Thread(target=lambda: [on_event(event) for event in self.events]).start()
        return "handle"

    serves = True

    def cancel(self, handle: str) -> None:
        self.cancelled.set()


@pytest.fixture
def blobs() -> Blobs:
    return Blobs("memory:///")


@pytest.fixture
def invocation(blobs: Blobs) -> Invocation:
    sha256 = hashlib.sha256(b"weights").hexdigest()
    key = f"models/{sha256}.safetensors"
    blobs.put(key, b"weights")
    asset = AssetRef(kind=AssetKind.CHECKPOINT, name="pocket", sha256=sha256, size=7, key=key)
    generation = builders.generation()
    return Invocation(job_id=builders.new_id(), epoch=2, generation=generation, assets=(asset,))


@pytest.fixture
def run_with(blobs: Blobs, tmp_path: Path) -> Callable[[FakeEngine], Runner]:
    cache = ModelCache(blobs, tmp_path, capacity=100)
    return lambda engine: Runner(engine, blobs, cache)  # type: ignore[arg-type]


RunWith = Callable[[FakeEngine], Runner]


async def said(runner: Runner, invocation: Invocation) -> list[Any]:
    """Everything but heartbeats."""
    return [event async for event in runner.run(invocation) if event.kind != "heartbeat"]


async def test_an_image_is_stored_before_it_is_announced(
    run_with: RunWith, invocation: Invocation, blobs: Blobs
) -> None:
    engine = FakeEngine(StepTaken(1, 1, b"jpeg"), READY, Done({"denoise": 1.0}))
    progress, painted, finished = await said(run_with(engine), invocation)
    assert progress == Progress(step=1, steps=1, preview="data:image/jpeg;base64,anBlZw==")
    assert isinstance(painted, ImagePainted)
    assert painted.image.key == f"jobs/{invocation.job_id}/2/0.png"
    assert blobs.get(painted.image.key) == READY.png
    assert painted.image.sha256 == hashlib.sha256(READY.png).hexdigest()
    assert finished == Finished(images=(painted.image,), seconds={"denoise": 1.0})


async def test_the_engine_gets_the_file_of_the_catalogue(run_with: RunWith, invocation: Invocation) -> None:
    engine = FakeEngine(Done({}))
    await said(run_with(engine), invocation)
    assert engine.given is not None
    assert engine.given.checkpoint.name == "pocket"
    assert engine.given.checkpoint.path.read_bytes() == b"weights"


async def test_an_engines_refusal_is_told(run_with: RunWith, invocation: Invocation) -> None:
    engine = FakeEngine(Broke(ModelFileError("it is a LoRA", field="checkpoint", hint="Choose another.")))
    assert await said(run_with(engine), invocation) == [
        Failed(code="model_file", detail="it is a LoRA", field="checkpoint", hint="Choose another.")
    ]


async def test_an_unexpected_error_says_nothing_of_the_inside(
    run_with: RunWith, invocation: Invocation
) -> None:
    engine = FakeEngine()
    engine.submit = None  # type: ignore[method-assign, assignment]
    (failed,) = await said(run_with(engine), invocation)
    assert failed.code == "worker_error"
    assert "NoneType" not in failed.detail


async def test_silence_is_filled_with_heartbeats(
    run_with: RunWith, invocation: Invocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "HEARTBEAT_SECONDS", 0.01)
    events = run_with(FakeEngine()).run(invocation)
    assert [(await anext(events)).kind for _ in range(5)] == ["heartbeat"] * 5
    await events.aclose()


async def test_closing_the_stream_cancels_the_run(run_with: RunWith, invocation: Invocation) -> None:
    engine = FakeEngine(StepTaken(1, 20, None))
    events = run_with(engine).run(invocation)
    while (await anext(events)).kind != "progress":
        pass
    assert not engine.cancelled.is_set()
    await events.aclose()
    assert engine.cancelled.is_set()


async def test_ping_answers_200(run_with: RunWith) -> None:
    async with _http(run_with(FakeEngine())) as http:
        assert (await http.get("/ping")).status_code == 200


async def test_ping_is_unhealthy_when_only_a_new_process_would_help(run_with: RunWith) -> None:
    engine = FakeEngine()
    engine.serves = False
    async with _http(run_with(engine)) as http:
        assert (await http.get("/ping")).status_code == 503


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(("too_much", "status"), [(0, 200), (1, 413)])
async def test_a_body_may_be_so_large_and_no_larger(
    run_with: RunWith, invocation: Invocation, announced: bool, too_much: int, status: int
) -> None:
    text = invocation.model_dump_json().encode()
    body = text + b" " * (LIMIT + too_much - len(text))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 2**20):
            yield body[start : start + 2**20]

    async with _http(run_with(FakeEngine(READY, Done({})))) as http:
        content = body if announced else pieces()
        answer = await http.post("/invocations", content=content, headers=JSON)
    assert answer.status_code == status
    if too_much:
        assert set(answer.json()) == {"code", "detail", "field", "hint"}


async def test_one_answer_is_the_final_event(run_with: RunWith, invocation: Invocation) -> None:
    answer = await _asked(run_with(FakeEngine(READY, Done({}))), as_object(invocation))
    assert answer.status_code == 200
    assert answer.json()["kind"] == "finished"
    assert len(answer.json()["images"]) == 1


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize(
    ("error", "status"), [(ModelFileError("bad file"), 400), (GenerationFailed("out of memory"), 500)]
)
async def test_a_failure_is_never_inside_a_200(
    run_with: RunWith, invocation: Invocation, delivery: Delivery, error: Exception, status: int
) -> None:
    runner = run_with(FakeEngine(Broke(error)))  # type: ignore[arg-type]
    answer = await _asked(runner, invocation.model_copy(update={"delivery": delivery}))
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "detail", "field", "hint"}
    assert answer.json()["detail"] == str(error)


async def test_events_stream_a_line_each(run_with: RunWith, invocation: Invocation) -> None:
    answer = await _asked(run_with(FakeEngine(StepTaken(1, 1, None), READY, Done({}))), invocation)
    kinds = [json.loads(line)["kind"] for line in answer.text.splitlines()]
    assert answer.status_code == 200
    assert [kind for kind in kinds if kind != "heartbeat"] == ["progress", "image", "finished"]


async def test_a_stream_of_a_slow_start_begins_with_heartbeats(
    run_with: RunWith, invocation: Invocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.worker.app.FIRST_WORD", 0.0)
    answer = await _asked(run_with(FakeEngine(Broke(ModelFileError("bad file")))), invocation)
    kinds = [json.loads(line)["kind"] for line in answer.text.splitlines()]
    assert (answer.status_code, kinds) == (200, ["heartbeat", "failed"])


async def test_an_attempt_that_was_called_off_never_begins(
    run_with: RunWith, invocation: Invocation, blobs: Blobs
) -> None:
    blobs.put(stop_key(invocation.job_id, invocation.epoch), b"")
    engine = FakeEngine(READY, Done({}))
    answer = await _asked(run_with(engine), as_object(invocation))
    assert (answer.status_code, answer.json()["code"]) == (400, "cancelled")
    assert engine.given is None


async def test_the_stop_of_another_attempt_stops_nothing(
    run_with: RunWith, invocation: Invocation, blobs: Blobs
) -> None:
    blobs.put(stop_key(invocation.job_id, invocation.epoch + 1), b"")
    answer = await _asked(run_with(FakeEngine(READY, Done({}))), as_object(invocation))
    assert answer.status_code == 200


async def test_an_attempt_that_is_called_off_stops_while_it_runs(
    run_with: RunWith, invocation: Invocation, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.worker.post.LOOK_AGAIN", 0.01)
    engine = FakeEngine(StepTaken(1, 20, None))
    events = run_with(engine).run(invocation)
    while (await anext(events)).kind != "progress":
        pass
    blobs.put(stop_key(invocation.job_id, invocation.epoch), b"")
    async with asyncio.timeout(10):
        (last,) = [event async for event in events if event.kind != "heartbeat"]
    assert isinstance(last, Failed)
    assert last.code == "cancelled"
    assert engine.cancelled.is_set()


async def test_no_image_is_left_behind_by_an_attempt_that_was_called_off(
    run_with: RunWith, invocation: Invocation, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.worker.post.LOOK_AGAIN", 3600.0)  # so that only the storing looks
    events = run_with(FakeEngine(StepTaken(1, 1, None), READY, Done({}))).run(invocation)
    while (await anext(events)).kind != "progress":
        pass
    blobs.put(stop_key(invocation.job_id, invocation.epoch), b"")
    (last,) = [event async for event in events if event.kind != "heartbeat"]
    assert isinstance(last, Failed)
    assert last.code == "cancelled"
    assert blobs.keys("jobs") == []


async def test_steps_and_images_so_far_are_reported_where_nobody_hears_them(
    run_with: RunWith, invocation: Invocation, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.worker.post.REPORT_INTERVAL", 0.0)
    await _asked(run_with(FakeEngine(StepTaken(3, 20, b"jpeg"), READY, Done({}))), as_object(invocation))
    report = Report.model_validate_json(blobs.get(report_key(invocation.job_id, invocation.epoch)))
    assert report.progress == Progress(step=3, steps=20, preview="data:image/jpeg;base64,anBlZw==")
    assert [image.key for image in report.images] == [f"{invocation.output_prefix}/0.png"]


async def test_a_stream_needs_no_report(run_with: RunWith, invocation: Invocation, blobs: Blobs) -> None:
    await _asked(run_with(FakeEngine(StepTaken(1, 1, None), READY, Done({}))), invocation)
    assert blobs.keys("temporary") == []


@pytest.mark.parametrize("body", ["", "{}", '{"job_id": "../../etc"}', "[]"])
async def test_what_is_no_invocation_is_400_and_names_the_field(run_with: RunWith, body: str) -> None:
    async with _http(run_with(FakeEngine())) as http:
        answer = await http.post("/invocations", content=body, headers=JSON)
    assert answer.status_code == 400
    assert set(answer.json()) == {"code", "detail", "field", "hint"}


async def test_many_invocations_run_at_once(run_with: RunWith, invocation: Invocation) -> None:
    runner = run_with(FakeEngine(READY, Done({})))
    others = [invocation.model_copy(update={"job_id": builders.new_id()}) for _ in range(8)]
    ends = await asyncio.gather(*(said(runner, other) for other in others))
    assert all(isinstance(events[-1], Finished) for events in ends)


JSON = {"Content-Type": "application/json"}


def as_object(invocation: Invocation) -> Invocation:
    return invocation.model_copy(update={"delivery": Delivery.OBJECT})


async def _asked(runner: Runner, invocation: Invocation) -> httpx.Response:
    async with _http(runner) as http:
        return await http.post("/invocations", content=invocation.model_dump_json(), headers=JSON)


def _http(runner: Runner) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(runner)), base_url="http://worker")
