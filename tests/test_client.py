"""The client against a real HTTP server over a scripted control plane."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest
import uvicorn
from PIL import Image

from cloudbrush import client as client_module
from cloudbrush.api.app import create_app
from cloudbrush.cli.serving import Server
from cloudbrush.client import Client
from cloudbrush.domain import image_file
from cloudbrush.domain.endpoint import EndpointSpec
from cloudbrush.domain.errors import EndpointNotReady, InvalidInput, NotFound, Unavailable
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.job import EventKind, JobState
from tests import builders
from tests.world import DEADLINE, World


@asynccontextmanager
async def listening(world: World, listener: socket.socket) -> AsyncIterator[None]:
    """The REST application on the listener's address."""
    config = uvicorn.Config(create_app(world.plane, nullcontext()), log_level="warning")
    config.timeout_graceful_shutdown = 0  # streams are cut, as when a server dies
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(DEADLINE):
        while not server.started:
            await asyncio.sleep(0)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _listener(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    listener = _listener()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with listening(world, listener), Client(url) as client:
        yield client


async def test_a_job_from_submit_to_image(client: Client, world: World) -> None:
    job = await client.submit(Txt2Img(prompt="a star"), endpoint="pocket")
    world.plane.stores.blobs.put(f"jobs/{job.id}/1/0.png", b"\x89PNG")
    async with world.dispatching(builders.paints_one_image), asyncio.timeout(DEADLINE):
        kinds = [event.kind async for event in client.events(job.id)]
    assert (kinds[0], kinds[-1]) == (EventKind.QUEUED, EventKind.FINISHED)
    assert (await client.job(job.id)).state is JobState.SUCCEEDED
    assert await client.image(job.id, 0) == b"\x89PNG"
    assert [found.id for found in (await client.jobs(states=[JobState.SUCCEEDED])).jobs] == [job.id]
    await client.delete(job.id)
    with pytest.raises(NotFound):
        await client.job(job.id)


async def test_the_errors_of_the_control_plane_are_raised_as_they_are(client: Client, world: World) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        await client.submit(Txt2Img(), endpoint="nowhere")
    with pytest.raises(InvalidInput) as refused:
        await client.deploy(EndpointSpec(name="x", provider="moon"))
    assert (refused.value.field, refused.value.hint) == ("provider", "Choose one of: fake.")
    await client.delete_endpoint("pocket")
    with pytest.raises(EndpointNotReady, match="Deleting"):
        await client.submit(Txt2Img(), endpoint="pocket")


async def test_cancelling_is_seen_by_who_follows(client: Client, world: World) -> None:
    job = await client.submit(Txt2Img(), endpoint="pocket")
    following = asyncio.create_task(_last(client, job.id))
    await client.cancel(job.id)
    async with asyncio.timeout(DEADLINE):
        assert (await following).data["state"] == "cancelled"


async def test_a_stream_that_broke_goes_on_where_it_was(world: World) -> None:
    listener = _listener()
    port = listener.getsockname()[1]
    started, seen = asyncio.Event(), []

    async def follow(client: Client, job_id: str) -> None:
        async for event in client.events(job_id):
            seen.append(event.seq)
            started.set()

    async with Client(f"http://127.0.0.1:{port}") as client:
        async with listening(world, listener):
            job = await client.submit(Txt2Img(), endpoint="pocket")
            following = asyncio.create_task(follow(client, job.id))
            await started.wait()
        async with listening(world, _listener(port)), world.dispatching(builders.paints_one_image):
            async with asyncio.timeout(DEADLINE):
                await following
    assert seen == sorted(set(seen)), "an event came twice"
    assert world.job(job.id).state is JobState.SUCCEEDED


async def test_a_silent_stream_is_asked_for_again(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE", 0.05)
    job = await client.submit(Txt2Img(), endpoint="pocket")
    following = asyncio.create_task(_last(client, job.id))
    async with asyncio.timeout(DEADLINE):
        async with world.dispatching(builders.paints_one_image):
            assert (await following).kind is EventKind.FINISHED


async def test_nobody_answering_is_said_plainly() -> None:
    listener = _listener()
    port = listener.getsockname()[1]
    listener.close()
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(Unavailable, match="nothing answers at") as error:
            await client.jobs()
        assert error.value.hint
        with pytest.raises(Unavailable):
            await _last(client, "any")


async def _last(client: Client, job_id: str):  # type: ignore[no-untyped-def]
    return [event async for event in client.events(job_id)][-1]


async def test_a_picture_comes_back_as_it_was_handed_in(client: Client) -> None:
    data = image_file.save(Image.new("RGB", (8, 4), "blue"), "a cat")
    picture = await client.add_picture(data)
    assert (picture.width, picture.height, picture.infotext) == (8, 4, "a cat")
    assert await client.picture(picture.id) == data
    with pytest.raises(NotFound):
        await client.picture("0" * 64)
