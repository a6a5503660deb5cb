"""`cloudbrush serve`: one per data directory, found by the other commands, stopped in order."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cloudbrush.client import Client
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.job import JobState
from tests.cli.test_commands import cloudbrush
from tests.program import Program

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path / "data", "--no-studio")
    program.start()
    yield program
    program.stop()


async def test_commands_talk_to_the_server_that_has_the_data(program: Program) -> None:
    async with Client(await program.url()) as client:
        await program.until_in_service(client)
        printed = cloudbrush("endpoints", "list", data_dir=program.data_dir)
        assert "InService" in printed
        job = await client.submit(Txt2Img(prompt="a star", steps=2), endpoint="pocket")
        assert job.id in cloudbrush("jobs", "list", data_dir=program.data_dir)
        out = program.data_dir / "out.png"
        cloudbrush(
            *("txt2img", "a star", "--steps", "2"),
            "--endpoint",
            "pocket",
            "-o",
            str(out),
            data_dir=program.data_dir,
        )
        assert out.exists()


async def test_a_second_server_is_told_that_the_data_are_taken(program: Program) -> None:
    await program.url()
    complaint = cloudbrush("serve", "--port", "0", data_dir=program.data_dir, status=1)
    assert "another Cloudbrush is running on this data directory" in complaint


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        complaint = cloudbrush("serve", "--port", str(port), "--no-studio", data_dir=tmp_path, status=1)
    assert f"port {port}" in complaint
    assert "--port" in complaint


async def test_a_stop_gives_jobs_back_and_leaves_no_process_behind(program: Program) -> None:
    async with Client(await program.url()) as client:
        await program.until_in_service(client)
        long = Txt2Img(prompt="a star", steps=150, batch_count=100)
        job = await client.submit(long, endpoint="pocket")
        async for event in client.events(job.id):
            if event.kind == "progress":
                break
    workers = program.workers()
    assert workers
    program.stop()
    assert not [
        worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE
    ]
    assert not (program.data_dir / "control-plane.json").exists()
    kept = json.loads(cloudbrush("jobs", "show", job.id, data_dir=program.data_dir))
    assert (kept["state"], kept["lost_attempts"]) == (JobState.QUEUED, [])
