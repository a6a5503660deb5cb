"""Asking for a generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudbrush.control import resolve
from cloudbrush.control.submit import submit
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.endpoint import EndpointState
from cloudbrush.domain.errors import EndpointNotReady, InvalidInput, NotFound, UnknownModel
from cloudbrush.domain.generation import MAX_SEED, HiresFix, Refiner, Txt2Img
from cloudbrush.domain.job import EventKind, JobState
from cloudbrush.stores.base import AssetSource, JobFilter
from tests import builders
from tests.world import World


def test_a_submitted_job_is_stored_with_its_first_event(world: World) -> None:
    job = world.submit()
    assert world.job(job.id) == job
    assert job.state is JobState.QUEUED
    assert [event.kind for event in world.plane.stores.events.after(job.id, 0)] == [EventKind.QUEUED]


def test_what_was_left_open_is_filled_in(world: World) -> None:
    painted = world.submit().generation
    assert (painted.checkpoint, painted.width, painted.height) == ("pocket", 128, 128)
    assert painted.seed == 1000


def test_what_was_given_stays(world: World) -> None:
    asked = Txt2Img(checkpoint="pocket", width=256, height=64, seed=7, vae=None)
    assert submit(world.plane, asked, owner="ann", endpoint="pocket").generation == asked


def test_a_drawn_seed_leaves_room_for_every_image(world: World) -> None:
    object.__setattr__(world.plane, "new_seed", lambda: MAX_SEED - 1)
    painted = world.submit(batch_count=5).generation
    assert painted.seed + painted.image_count <= MAX_SEED


def test_an_unknown_checkpoint_is_refused_by_name(world: World) -> None:
    with pytest.raises(UnknownModel, match="dreamy") as refused:
        world.submit(checkpoint="dreamy")
    assert refused.value.field == "checkpoint"


@pytest.mark.parametrize(
    ("changes", "field", "name"),
    [
        ({"vae": "dreamy"}, "vae", "dreamy"),
        ({"prompt": "a <lora:neon:1>"}, "prompt", "neon"),
        ({"prompt": "a <lyco:neon>"}, "prompt", "neon"),
        ({"prompt": "a <hypernet:anime:0.5>"}, "prompt", "anime"),
        ({"hires": {"checkpoint": "dreamy"}}, "hires.checkpoint", "dreamy"),
        ({"hires": {"upscaler": "4x-dreamy"}}, "hires.upscaler", "4x-dreamy"),
        ({"hires": {"prompt": "a <lora:neon:1>"}}, "hires.prompt", "neon"),
        ({"refiner": {"checkpoint": "dreamy"}}, "refiner.checkpoint", "dreamy"),
    ],
)
def test_unknown_networks_are_refused_by_name(
    world: World, changes: dict[str, Any], field: str, name: str
) -> None:
    with pytest.raises(UnknownModel, match=name) as refused:
        submit(world.plane, Txt2Img(**changes), owner="ann", endpoint="pocket")
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("prompt", "detail"),
    [
        ("a <lora:neon:strong>", "'strong', which is no number"),
        ("a <lora::1>", "names no network"),
        ("a <lora:neon:1:1:0.5>", "dyn of"),
        ("a <loar:neon:1>", "is of no kind that is known"),
    ],
)
def test_a_tag_that_cannot_be_read_is_refused_at_the_door(world: World, prompt: str, detail: str) -> None:
    catalogue(world, AssetKind.LORA, "neon")
    with pytest.raises(InvalidInput, match=detail) as refused:
        world.submit(prompt)
    assert refused.value.field == "prompt"


def catalogue(world: World, kind: AssetKind, *names: str) -> None:
    for name in names:
        asset = builders.checkpoint(name).model_copy(update={"kind": kind})
        world.plane.stores.assets.put(AssetSource(asset, Path(name), modified=1))


def test_an_automatic_vae_is_one_named_like_the_checkpoint(world: World) -> None:
    """Specification 1.5: the file whose name begins with the checkpoint's; else the checkpoint's own."""
    catalogue(world, AssetKind.VAE, "other", "sharp")
    assert world.submit().generation.vae is None
    catalogue(world, AssetKind.VAE, "pocket.vae")
    assert world.submit().generation.vae == "pocket.vae"
    assert world.submit(vae="None").generation.vae is None
    assert world.submit(vae="sharp").generation.vae == "sharp"


def test_checkpoints_and_upscalers_of_later_passes_go_along(world: World) -> None:
    catalogue(world, AssetKind.CHECKPOINT, "large", "fine")
    catalogue(world, AssetKind.UPSCALER, "4x-sharp")
    hires = HiresFix(upscaler="4x-sharp", checkpoint="large")
    asked = Txt2Img(checkpoint="pocket", hires=hires, refiner=Refiner(checkpoint="fine"))
    needed = [asset.name for asset in resolve.everything(world.plane, asked)]
    assert needed[0] == "pocket"
    assert sorted(needed[1:]) == ["4x-sharp", "fine", "large"]
    latent = Txt2Img(checkpoint="pocket", hires=HiresFix(upscaler="Latent (nearest)"))
    assert len(resolve.everything(world.plane, latent)) == 1


def test_every_model_a_generation_names_goes_along(world: World) -> None:
    for kind in (AssetKind.LORA, AssetKind.HYPERNETWORK, AssetKind.EMBEDDING, AssetKind.VAE):
        catalogue(world, kind, "wanted", "other")
    prompt = "# <lora:comment:1>\na <lora:wanted:1> <lora:wanted:0.5> <hypernet:wanted:1> in Wanted style"
    needed = resolve.everything(world.plane, Txt2Img(prompt=prompt, vae="wanted"))
    assert [(asset.kind, asset.name) for asset in needed] == [
        (AssetKind.CHECKPOINT, "pocket"),
        (AssetKind.VAE, "wanted"),
        (AssetKind.LORA, "wanted"),
        (AssetKind.HYPERNETWORK, "wanted"),
        (AssetKind.EMBEDDING, "wanted"),
    ]
    (negative,) = resolve.everything(world.plane, Txt2Img(negative_prompt="other"))[1:]
    assert (negative.kind, negative.name) == (AssetKind.EMBEDDING, "other")


def test_an_unknown_endpoint_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        submit(world.plane, Txt2Img(), owner="ann", endpoint="nowhere")


@pytest.mark.parametrize("state", [EndpointState.CREATING, EndpointState.DELETING, EndpointState.FAILED])
def test_an_endpoint_in_any_other_state_is_refused_and_nothing_is_stored(
    world: World, state: EndpointState
) -> None:
    endpoint = world.plane.stores.endpoints.get("pocket")
    world.plane.stores.endpoints.change(endpoint.evolved(world.clock(), state=state))
    with pytest.raises(EndpointNotReady, match=f"is {state}, not InService") as refused:
        world.submit()
    assert refused.value.hint
    assert world.plane.stores.jobs.find(JobFilter(), limit=1).jobs == ()


def test_an_endpoint_whose_instances_are_being_changed_takes_jobs(world: World) -> None:
    endpoint = world.plane.stores.endpoints.get("pocket")
    world.plane.stores.endpoints.change(endpoint.evolved(world.clock(), state=EndpointState.UPDATING))
    assert world.submit().state is JobState.QUEUED


def test_a_repeated_request_is_answered_also_when_the_endpoint_left_service(world: World) -> None:
    asked = Txt2Img(prompt="a star")
    first = submit(world.plane, asked, owner="ann", endpoint="pocket", idempotency_key="k")
    endpoint = world.plane.stores.endpoints.get("pocket")
    world.plane.stores.endpoints.change(endpoint.evolved(world.clock(), state=EndpointState.CREATING))
    again = submit(world.plane, asked, owner="ann", endpoint="pocket", idempotency_key="k")
    assert again.id == first.id


def test_the_same_key_brings_the_same_job(world: World) -> None:
    asked = Txt2Img(prompt="a star")
    first, second = (
        submit(world.plane, asked, owner="ann", endpoint="pocket", idempotency_key="k") for _ in range(2)
    )
    assert first.id == second.id
