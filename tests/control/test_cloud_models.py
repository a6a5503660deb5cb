"""Models in the cloud: who sees them, what is sent, and what a job may name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cloudbrush.control import assets, submit
from cloudbrush.control.cloud_models import CloudModels
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.endpoint import SAGEMAKER, Endpoint, EndpointSpec, EndpointState
from cloudbrush.domain.errors import (
    GenerationFailed,
    ModelFileError,
    NotInCloud,
    Unavailable,
)
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.job import Job
from cloudbrush.stores.base import JobFilter
from cloudbrush.stores.blobs import Blobs
from tests.builders import START
from tests.control.test_assets import CHECKPOINT, checkpoint, diffusers_folder
from tests.world import World


@pytest.fixture
def cloud(world: World) -> CloudModels:
    """What is in the bucket; a store in memory is as far away for this."""
    return CloudModels(world.plane.stores.blobs)


@pytest.fixture
def models(world: World, tmp_path: Path, cloud: CloudModels) -> Path:
    """The model folders of a control plane that has a cloud and an endpoint there."""
    for source in world.plane.stores.assets.all():
        world.plane.stores.assets.delete(source.asset.kind, source.asset.name)
    world.plane = replace(world.plane, models_dirs=(tmp_path / "models",), cloud_models=cloud)
    spec = EndpointSpec(name="gpu", provider=SAGEMAKER)
    world.plane.stores.endpoints.add(
        Endpoint(spec=spec, state=EndpointState.IN_SERVICE, created_at=START, changed_at=START)
    )
    return tmp_path / "models"


def asset(path: Path, kind: AssetKind = AssetKind.CHECKPOINT) -> ModelAsset:
    return assets.read(kind, path)


def listed(world: World) -> list[str]:
    assets.refresh(world.plane)
    return [asset.shown_name for asset in assets.find(world.plane)]


def ask(world: World, **fields: object) -> Job:
    asked = Txt2Img(prompt="a red circle", **fields)  # type: ignore[arg-type]
    return submit.submit(world.plane, asked, owner="ann", endpoint="gpu")


class TestSharing:
    def test_what_was_added_is_seen_by_everyone_with_the_bucket(self, bucket: str, tmp_path: Path) -> None:
        file = checkpoint(tmp_path / "mine.safetensors")
        assert CloudModels(Blobs(bucket)).add(asset(file), file)
        (seen,) = CloudModels(Blobs(bucket)).all()
        assert seen == asset(file).model_copy(update={"in_cloud": True})
        assert Blobs(bucket).get(seen.key) == file.read_bytes()

    def test_the_same_bytes_are_sent_once_whatever_they_are_called(
        self, cloud: CloudModels, tmp_path: Path
    ) -> None:
        one, two = checkpoint(tmp_path / "one.safetensors"), checkpoint(tmp_path / "two.safetensors")
        arrived: list[int] = []
        assert cloud.add(asset(one), one)
        assert not cloud.add(asset(two), two, arrived.append)
        assert arrived == [two.stat().st_size]
        assert [seen.name for seen in cloud.all()] == ["two"]
        cloud.add(asset(one), one, rename=False)
        assert [seen.name for seen in cloud.all()] == ["two"]

    def test_of_two_with_one_name_the_later_counts(self, cloud: CloudModels, tmp_path: Path) -> None:
        for folder, fill in (("a", 0.0), ("b", 1.0), ("c", 0.5)):
            file = checkpoint(tmp_path / folder / "m.safetensors", fill)
            cloud.add(asset(file), file)
            assert [seen.sha256 for seen in cloud.all()] == [asset(file).sha256]

    def test_a_folder_is_sent_with_all_it_holds(
        self, cloud: CloudModels, world: World, tmp_path: Path
    ) -> None:
        folder = diffusers_folder(tmp_path / "folder-model")
        model = asset(folder)
        cloud.add(model, folder)
        blobs = world.plane.stores.blobs
        sent = {key.removeprefix(f"{model.key}/"): blobs.get(key) for key in blobs.keys(model.key)}
        names = [name for name in folder.rglob("*") if name.is_file()]
        assert sent == {str(name.relative_to(folder)): name.read_bytes() for name in names}

    @pytest.mark.parametrize("card", [b"", b"{}", b"\xff", b'{"kind": "checkpoint"}'])
    def test_a_card_that_makes_no_sense_is_left_out(
        self, cloud: CloudModels, world: World, tmp_path: Path, card: bytes
    ) -> None:
        file = checkpoint(tmp_path / "good.safetensors")
        cloud.add(asset(file), file)
        world.plane.stores.blobs.put(f"models/{'0' * 64}.json", card)
        for name, changes in (
            ("1" * 64, {}),
            ("short", {"sha256": "short"}),
            ("2" * 64, {"sha256": "2" * 64, "name": "a" * 256}),
            ("3" * 64, {"sha256": "3" * 64, "name": "a\0b"}),
        ):
            told = asset(file).model_copy(update=changes).model_dump_json().encode()
            world.plane.stores.blobs.put(f"models/{name}.json", told)
        assert [seen.name for seen in cloud.all()] == ["good"]

    def test_a_card_is_read_once(
        self, cloud: CloudModels, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = checkpoint(tmp_path / "m.safetensors")
        cloud.add(asset(file), file)
        reads: list[str] = []
        get = world.plane.stores.blobs.get
        monkeypatch.setattr(world.plane.stores.blobs, "get", lambda key: reads.append(key) or get(key))
        assert cloud.all() == cloud.all()
        assert len(reads) == 1


class TestCatalogue:
    def test_cloud_models_carry_the_suffix_and_local_ones_are_not_sent(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path
    ) -> None:
        checkpoint(models / CHECKPOINT / "here.safetensors")
        both = checkpoint(models / CHECKPOINT / "both.safetensors", fill=1.0)
        there = checkpoint(tmp_path / "there.safetensors", fill=2.0)
        for file in (both, there):
            cloud.add(asset(file), file)
        assert listed(world) == ["both [sagemaker]", "here", "there [sagemaker]"]
        assert len(world.plane.stores.blobs.keys("models")) == 4
        assert listed(world) == ["both [sagemaker]", "here", "there [sagemaker]"]

    def test_what_leaves_the_cloud_leaves_the_list(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path
    ) -> None:
        both = checkpoint(models / CHECKPOINT / "both.safetensors")
        there = checkpoint(tmp_path / "there.safetensors", fill=2.0)
        for file in (both, there):
            cloud.add(asset(file), file)
        assert listed(world) == ["both [sagemaker]", "there [sagemaker]"]
        world.plane.stores.blobs.delete("models")
        assert listed(world) == ["both"]

    def test_a_file_here_hides_another_one_of_its_name_there(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path
    ) -> None:
        checkpoint(models / CHECKPOINT / "m.safetensors")
        there = checkpoint(tmp_path / "m.safetensors", fill=2.0)
        cloud.add(asset(there), there)
        assert listed(world) == ["m"]

    def test_a_cloud_that_cannot_be_asked_hides_nothing(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there = checkpoint(tmp_path / "there.safetensors")
        cloud.add(asset(there), there)
        checkpoint(models / CHECKPOINT / "here.safetensors", fill=1.0)
        before = listed(world)

        def away(*_: object) -> None:
            raise Unavailable("S3 cannot be reached")

        monkeypatch.setattr(world.plane.stores.blobs, "entries", away)
        assert listed(world) == before == ["here", "there [sagemaker]"]


class TestJobs:
    @pytest.mark.parametrize("name", ["m", "m [sagemaker]"])
    def test_a_model_in_the_cloud_is_named_with_the_suffix_or_without(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path, name: str
    ) -> None:
        there = checkpoint(tmp_path / "m.safetensors")
        cloud.add(asset(there), there)
        assets.refresh(world.plane)
        assert ask(world, checkpoint=name).generation.checkpoint == "m"

    def test_every_field_takes_the_suffix(self) -> None:
        asked = Txt2Img(
            checkpoint="a [sagemaker]",
            vae="b [sagemaker]",
            refiner={"checkpoint": "c [sagemaker]", "switch_at": 0.8},  # type: ignore[arg-type]
            hires={"checkpoint": "d [sagemaker]", "upscaler": "e [sagemaker]"},  # type: ignore[arg-type]
        )
        assert asked.refiner is not None
        assert asked.hires is not None
        names = (asked.checkpoint, asked.vae, asked.refiner.checkpoint)
        assert (*names, asked.hires.checkpoint, asked.hires.upscaler) == ("a", "b", "c", "d", "e")

    def test_one_that_is_only_here_is_refused_by_name(self, world: World, models: Path) -> None:
        checkpoint(models / CHECKPOINT / "my model.safetensors")
        assets.refresh(world.plane)
        with pytest.raises(NotInCloud, match="'my model'") as raised:
            ask(world, checkpoint="my model")
        assert raised.value.field == "checkpoint"
        assert "cloudbrush models upload 'my model'" in (raised.value.hint or "")
        assert world.plane.stores.jobs.find(JobFilter(), limit=1).jobs == ()

    def test_each_field_that_names_one_is_told(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path
    ) -> None:
        there = checkpoint(tmp_path / "m.safetensors")
        cloud.add(asset(there), there)
        checkpoint(models / CHECKPOINT / "here.safetensors", fill=1.0)
        assets.refresh(world.plane)
        for fields, field in (
            ({"refiner": {"checkpoint": "here", "switch_at": 0.8}}, "refiner.checkpoint"),
            ({"hires": {"checkpoint": "here"}}, "hires.checkpoint"),
        ):
            with pytest.raises(NotInCloud) as raised:
                ask(world, checkpoint="m", **fields)
            assert raised.value.field == field

    def test_one_uploaded_since_the_list_was_read_is_taken(
        self, world: World, models: Path, cloud: CloudModels
    ) -> None:
        file = checkpoint(models / CHECKPOINT / "m.safetensors")
        assets.refresh(world.plane)
        cloud.add(asset(file), file)
        assert ask(world, checkpoint="m").generation.checkpoint == "m"

    def test_without_a_name_one_in_the_cloud_is_taken(
        self, world: World, models: Path, cloud: CloudModels, tmp_path: Path
    ) -> None:
        checkpoint(models / CHECKPOINT / "a.safetensors")
        there = checkpoint(tmp_path / "z.safetensors", fill=1.0)
        cloud.add(asset(there), there)
        assets.refresh(world.plane)
        assert ask(world).generation.checkpoint == "z"


class TestLending:
    def lend(self, world: World) -> None:
        assets.lend(world.plane, assets.find(world.plane))

    def test_a_worker_here_finds_what_was_only_in_a_folder(self, world: World, models: Path) -> None:
        file = checkpoint(models / CHECKPOINT / "m.safetensors")
        assets.refresh(world.plane)
        self.lend(world)
        assert world.plane.stores.blobs.get(asset(file).key) == file.read_bytes()
        assert [model.shown_name for model in assets.find(world.plane)] == ["m [sagemaker]"]
        assert listed(world) == ["m [sagemaker]"]

    @pytest.mark.parametrize("change", [lambda file: os.utime(file, ns=(1, 1)), Path.unlink])
    def test_a_file_that_changed_since_is_not_sent_under_its_old_sum(
        self, world: World, models: Path, change: Callable[[Path], None]
    ) -> None:
        file = checkpoint(models / CHECKPOINT / "m.safetensors")
        assets.refresh(world.plane)
        change(file)
        with pytest.raises(ModelFileError, match="changed or is gone"):
            self.lend(world)
        assert world.plane.stores.blobs.keys("models") == []

    def test_a_bucket_that_takes_nothing_ends_the_job_with_its_reason(
        self, world: World, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint(models / CHECKPOINT / "m.safetensors")
        assets.refresh(world.plane)

        def denied(*_: object) -> None:
            raise Unavailable("AWS does not allow to write", hint="Ask for s3:PutObject.")

        monkeypatch.setattr(world.plane.stores.blobs, "upload", denied)
        with pytest.raises(
            GenerationFailed, match="'m' cannot be put into the cloud: AWS does not allow"
        ) as raised:
            self.lend(world)
        assert raised.value.hint == "Ask for s3:PutObject."

    def test_where_there_is_no_cloud_nothing_is_sent(self, world: World, models: Path) -> None:
        world.plane = replace(world.plane, cloud_models=None)
        checkpoint(models / CHECKPOINT / "m.safetensors")
        assets.refresh(world.plane)
        self.lend(world)
        assert [model.shown_name for model in assets.find(world.plane)] == ["m"]
