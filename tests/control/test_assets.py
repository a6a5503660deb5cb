"""The catalogue follows the model folders."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file

from cloudbrush.control import assets
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import InvalidInput, ModelFileError, NotFound
from cloudbrush.stores.digest import sha256_of
from tests.world import World

CHECKPOINT = "Stable-diffusion"


def checkpoint(path: Path, fill: float = 0.0, **metadata: str) -> Path:
    """A file that looks like an SD1 checkpoint from outside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    other = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({key: np.full(4, fill), other: np.zeros((4, 4, 3, 3))}, path, metadata=metadata)
    return path


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    object.__setattr__(world.plane, "models_dirs", (tmp_path / "models",))
    return tmp_path / "models"


def names(world: World, kind: AssetKind | None = None) -> list[str]:
    assets.refresh(world.plane)
    return [asset.name for asset in assets.find(world.plane, kind)]


def test_files_are_found_in_their_folders_and_below(world: World, folder: Path) -> None:
    checkpoint(folder / CHECKPOINT / "one.safetensors")
    checkpoint(folder / CHECKPOINT / "mine" / "two.safetensors")
    (folder / CHECKPOINT / "notes.txt").write_text("no model")
    assert names(world) == ["one", "two"]


def test_an_asset_tells_what_the_file_is(world: World, folder: Path) -> None:
    path = checkpoint(folder / CHECKPOINT / "one.safetensors", **{"cloudbrush.native_size": "130"})
    assets.refresh(world.plane)
    (asset,) = assets.find(world.plane, AssetKind.CHECKPOINT)
    assert (asset.sha256, asset.size) == (sha256_of(path), path.stat().st_size)
    assert (asset.family, asset.native_size) == ("sd1", 128)
    assert world.plane.stores.blobs.get(asset.key) == path.read_bytes()


def test_a_removed_file_leaves_the_catalogue(world: World, folder: Path) -> None:
    path = checkpoint(folder / CHECKPOINT / "one.safetensors")
    assert names(world) == ["one"]
    path.unlink()
    assert names(world) == []


def test_a_changed_file_is_read_again(world: World, folder: Path) -> None:
    path = checkpoint(folder / CHECKPOINT / "one.safetensors")
    assets.refresh(world.plane)
    (before,) = assets.find(world.plane)
    checkpoint(path, fill=1.0)
    os.utime(path, ns=(1, 1))
    assets.refresh(world.plane)
    (after,) = assets.find(world.plane)
    assert before.sha256 != after.sha256 == sha256_of(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02pickle", b"<html>", b"\xff" * 64])
def test_a_file_that_is_no_model_is_left_out(world: World, folder: Path, content: bytes) -> None:
    checkpoint(folder / CHECKPOINT / "good.safetensors")
    (folder / CHECKPOINT / "bad.safetensors").write_bytes(content)
    assert names(world) == ["good"]


def test_broken_links_and_strange_names_stop_nothing(world: World, folder: Path) -> None:
    checkpoint(folder / CHECKPOINT / "good.safetensors")
    (folder / CHECKPOINT / "dangling.safetensors").symlink_to(folder / "nowhere")
    strange = os.fsencode(folder / CHECKPOINT) + b"/caf\xe9.safetensors"
    Path(os.fsdecode(strange)).write_bytes((folder / CHECKPOINT / "good.safetensors").read_bytes())
    assert names(world) == ["good"]


def test_a_file_that_became_useless_leaves_the_catalogue(world: World, folder: Path) -> None:
    path = checkpoint(folder / CHECKPOINT / "one.safetensors")
    assert names(world) == ["one"]
    path.write_bytes(b"broken")
    assert names(world) == []


@pytest.mark.parametrize("other", ["Lora", "VAE", "ESRGAN", "embeddings", "hypernetworks"])
def test_a_checkpoint_in_another_folder_is_left_out(world: World, folder: Path, other: str) -> None:
    checkpoint(folder / other / "lost.safetensors")
    assert names(world) == []


def diffusers_folder(path: Path) -> Path:
    """What a diffusers folder of SDXL says of itself, and a little of what it holds."""
    checkpoint(path / "unet" / "diffusion_pytorch_model.safetensors")
    for name, content in (
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
        ("unet/config.json", {"sample_size": 128}),
        ("vae/config.json", {"block_out_channels": [1, 2, 3, 4]}),
        ("text_encoder/config.json", {}),
    ):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(content))
    return path


def test_what_is_no_checkpoint_is_left_out_among_the_checkpoints(world: World, folder: Path) -> None:
    (folder / CHECKPOINT / "folder-model").mkdir(parents=True)
    (folder / CHECKPOINT / "folder-model" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    save_file({"lora_unet_x.diff": np.zeros((2, 2))}, folder / CHECKPOINT / "lora.safetensors")
    assert names(world) == []
    (folder / "RealESRGAN").mkdir()
    save_file({"conv_first.weight": np.zeros((4, 3, 3, 3))}, folder / "RealESRGAN" / "up.safetensors")
    assert names(world, AssetKind.UPSCALER) == ["up"]


def picture(path: Path, **content: object) -> Path:
    """A picture, with an embedding in its text if there is any content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    if content:
        info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(content).encode()).decode())
    Image.new("RGB", (8, 8), "red").save(path, pnginfo=info)
    return path


def test_an_embedding_in_a_picture_has_its_name_inside(world: World, folder: Path) -> None:
    vectors = {"*": [[0.5, 1.0]]}
    path = picture(folder / "embeddings" / "cat-500.PNG", string_to_param=vectors, name="cat")
    picture(folder / "embeddings" / "plain.png")
    picture(folder / "embeddings" / "dog.preview.png", string_to_param=vectors, name="dog")
    picture(folder / CHECKPOINT / "cat.png", string_to_param=vectors, name="cat")
    assert names(world) == ["cat"]
    (asset,) = assets.find(world.plane)
    assert (asset.kind, asset.sha256) == (AssetKind.EMBEDDING, sha256_of(path))
    assert world.plane.stores.blobs.get(asset.key) == path.read_bytes()
    assert names(world) == ["cat"]
    picture(path, string_to_param=vectors, name="bird")
    os.utime(path, ns=(1, 1))
    assert names(world) == ["bird"]


def test_a_diffusers_folder_is_one_checkpoint(world: World, folder: Path) -> None:
    model = diffusers_folder(folder / CHECKPOINT / "folder-model")
    object.__setattr__(world.plane.stores, "blobs", type(world.plane.stores.blobs)((folder / "b").as_uri()))
    assets.refresh(world.plane)
    (asset,) = assets.find(world.plane)
    assert (asset.name, asset.is_folder, asset.sha256) == ("folder-model", True, sha256_of(model))
    assert (asset.family, asset.native_size) == ("sdxl", 1024)
    lent = world.plane.stores.blobs.local_path(asset.key)
    assert lent is not None
    assert lent.resolve() == model.resolve()


class TestLocating:
    def test_a_file_is_what_its_header_says(self, tmp_path: Path) -> None:
        path = checkpoint(tmp_path / "m.safetensors")
        assert assets.locate(str(path), None, ()) == (AssetKind.CHECKPOINT, path)

    def test_a_name_is_found_in_the_folders_with_suffix_or_without(self, folder: Path) -> None:
        path = checkpoint(folder / CHECKPOINT / "below" / "m.safetensors")
        for name in ("m", "m [sagemaker]"):
            assert assets.locate(name, None, (folder,)) == (AssetKind.CHECKPOINT, path)

    def test_one_name_of_two_kinds_asks_which(self, folder: Path) -> None:
        checkpoint(folder / CHECKPOINT / "m.safetensors")
        lora = folder / "Lora" / "m.safetensors"
        lora.parent.mkdir()
        save_file({"lora_unet_x.lora_up.weight": np.zeros(1)}, lora)
        with pytest.raises(InvalidInput, match="several"):
            assets.locate("m", None, (folder,))
        assert assets.locate("m", AssetKind.LORA, (folder,)) == (AssetKind.LORA, lora)

    def test_what_is_nothing_or_something_else_is_refused(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="nothing"):
            assets.locate("nothing", None, (folder,))
        pickle = tmp_path / "old.ckpt"
        pickle.write_bytes(b"\x80\x02" + bytes(100))
        with pytest.raises(ModelFileError, match="pickle"):
            assets.locate(str(pickle), None, ())
        with pytest.raises(ModelFileError, match="this is a checkpoint; a LoRA is wanted"):
            assets.locate(str(checkpoint(tmp_path / "m.safetensors")), AssetKind.LORA, ())
        (tmp_path / "m").mkdir()
        with pytest.raises(NotFound):
            assets.locate(str(tmp_path / "m"), None, ())

    def test_an_embedding_in_a_picture_goes_by_its_own_name(self, folder: Path, tmp_path: Path) -> None:
        path = picture(folder / "embeddings" / "cat-500.png", string_to_param={"*": [[0.5]]}, name="cat")
        for wanted in ("cat", str(path)):
            assert assets.locate(wanted, None, (folder,)) == (AssetKind.EMBEDDING, path)
        assert assets.read(AssetKind.EMBEDDING, path).name == "cat"
        with pytest.raises(ModelFileError, match="carries no embedding"):
            assets.locate(str(picture(tmp_path / "holiday.png")), None, (folder,))

    def test_a_folder_is_a_checkpoint(self, tmp_path: Path) -> None:
        path = diffusers_folder(tmp_path / "model")
        assert assets.locate(str(path), None, ()) == (AssetKind.CHECKPOINT, path)
