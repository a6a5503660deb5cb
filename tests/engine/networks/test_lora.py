"""LoRA files: what they say about themselves, and which are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudbrush.domain.errors import InvalidInput, ModelFileError
from cloudbrush.domain.network_tags import HypernetworkTag, LoraTag
from cloudbrush.domain.prompt import cut_network_tags
from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks.lora import bind, read_network, unmatched
from cloudbrush.engine.networks.names import targets
from tests.engine.conftest import Shape
from tests.engine.networks.files import lora_for, rand, write

LAYER = "lora_unet_time_embedding_linear_1"


def a_lora() -> dict[str, torch.Tensor]:
    """Of the tiny denoiser's first linear layer, (32, 8)."""
    return {f"{LAYER}.lora_up.weight": rand(32, 2), f"{LAYER}.lora_down.weight": rand(2, 8)}


def test_hash_alias_and_family_come_from_metadata(tmp_path: Path) -> None:
    metadata = {
        "sshs_model_hash": "0123456789abcdef0123",
        "ss_output_name": "nice",
        "ss_base_model_version": "sdxl_base_v1-0",
    }
    network = read_network(write(tmp_path / "x.safetensors", a_lora(), metadata))
    assert (network.shorthash, network.alias, network.family) == ("0123456789ab", "nice", "sdxl")
    network = read_network(write(tmp_path / "y.safetensors", a_lora(), {"ss_v2": "True"}))
    assert (network.alias, network.family) == ("y", "sd2")
    assert read_network(write(tmp_path / "z.safetensors", a_lora(), {"a": "b"})).family == "sd1"


def test_without_metadata_the_hash_is_that_of_the_body(tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors", a_lora())
    content = file.path.read_bytes()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    network = read_network(file)
    assert network.shorthash == hashlib.sha256(body).hexdigest()[:12]
    assert network.family is None


def test_what_finds_no_place_is_listed(tmp_path: Path) -> None:
    unet, _, text = Shape().modules()
    tensors = a_lora() | {
        "lora_te2_text_projection.lora_up.weight": rand(4, 2),
        "lora_te2_text_projection.lora_down.weight": rand(2, 4),
        "lora_unet_nowhere.lora_up.weight": rand(4, 2),
        "lora_unet_nowhere.lora_down.weight": rand(2, 4),
        "stray": rand(1),
        "other.weight": rand(1),
    }
    network = read_network(write(tmp_path / "x.safetensors", tensors))
    bounds = [
        bind(network, module, targets(module, component), component)
        for module, component in ((unet, Component.UNET), (text, Component.TEXT))
    ]
    assert list(bounds[0].layers) == ["time_embedding.linear_1"]
    assert bounds[0].missing == ("lora_unet_nowhere",)
    assert set(unmatched(network, bounds)) == {
        "lora_te2_text_projection", "lora_unet_nowhere", "stray", "other.weight"
    }  # fmt: skip


def test_a_lora_of_every_layer_is_wholly_placed(tmp_path: Path) -> None:
    unet, _, text = Shape(depth=2).modules()
    tensors = lora_for(unet, "lora_unet_") | lora_for(text, "lora_te_text_model_")
    network = read_network(write(tmp_path / "x.safetensors", tensors))
    bounds = [
        bind(network, module, targets(module, component), component)
        for module, component in ((unet, Component.UNET), (text, Component.TEXT))
    ]
    assert not unmatched(network, bounds)


def test_bundled_embeddings_are_read(tmp_path: Path) -> None:
    bundled = {
        "bundle_emb.one.string_to_param.*": rand(2, 8),
        "bundle_emb.two.emb_params": rand(8),
        "bundle_emb.pair.clip_g": rand(3, 12),
        "bundle_emb.pair.clip_l": rand(3, 8),
    }
    network = read_network(write(tmp_path / "x.safetensors", a_lora() | bundled))
    found = {embedding.name: embedding for embedding in network.embeddings}
    assert {name: (e.count, e.widths) for name, e in found.items()} == {
        "one": (2, (8,)), "two": (1, (8,)), "pair": (3, (8, 12))
    }  # fmt: skip
    assert found["pair"].vectors[1].equal(bundled["bundle_emb.pair.clip_g"])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"decoder.conv_in.weight": rand(2)}, "this is a VAE; a LoRA was expected"),
        ({"emb_params": rand(2)}, "this is an embedding; a LoRA"),
        ({"foo": rand(2), "bar": rand(3)}, "holds bar, foo"),
        ({f"{LAYER}.lora_up.weight": rand(2, 2)}, rf"{LAYER} has only lora_up"),
        (a_lora() | {f"{LAYER}.alpha": rand(2)}, rf"{LAYER}.alpha has the shape \(2,\)"),
        (a_lora() | {f"{LAYER}.alpha": torch.tensor(torch.nan)}, rf"{LAYER}.alpha is nan"),
        (a_lora() | {f"{LAYER}.lora_up.weight": torch.ones(32, 2).int()}, "lora_up.weight is stored as I32"),
        (a_lora() | {f"{LAYER}.lora_B.weight": rand(32, 2)}, "are the same part"),
    ],
)
def test_other_files_are_refused(tensors: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_network(write(tmp_path / "x.safetensors", tensors))


def test_a_whole_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="a checkpoint; a LoRA was expected"):
        read_network(write(tmp_path / "x.safetensors", Shape().weights()))


def test_cut_files_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors", a_lora())
    whole = file.path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        file.path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            read_network(file)


@pytest.mark.parametrize(
    "parts",
    [
        {"lora_up.weight": rand(32, 2), "lora_down.weight": rand(3, 8)},
        {"lora_up.weight": rand(32, 2), "lora_down.weight": rand(2, 9)},
        {"lora_up.weight": rand(1), "lora_down.weight": rand(2, 8)},
        {"lora_up.weight": rand(64, 2), "lora_down.weight": rand(2, 4, 2, 2)},
        {"diff": rand(32, 7)},
        {"diff": rand(32, 8), "diff_b": rand(31)},
        {"oft_blocks": rand(5, 6, 6)},
        {"oft_blocks": rand(8, 4, 3)},
        {"weight": rand(31), "on_input": torch.tensor(False)},
        {"lokr_w1": rand(3, 2), "lokr_w2": rand(4, 4)},
        {"hada_w1_a": rand(32, 2), "hada_w1_b": rand(2, 8), "hada_w2_a": rand(3, 2), "hada_w2_b": rand(2, 8)},
        {"lora_up.weight": rand(32, 2), "lora_down.weight": rand(2, 8), "dora_scale": rand(1, 7)},
        {"a1.weight": rand(2, 8), "a2.weight": rand(7, 2), "b1.weight": rand(2, 8), "b2.weight": rand(32, 2)},
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(parts: dict[str, Any], tmp_path: Path) -> None:
    unet, _, _ = Shape().modules()
    network = read_network(
        write(tmp_path / "x.safetensors", {f"{LAYER}.{part}": tensor for part, tensor in parts.items()})
    )
    with pytest.raises(ModelFileError, match=LAYER):
        bind(network, unet, targets(unet, Component.UNET), Component.UNET)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<lora:a>", LoraTag("a")),
        ("<lora:a:0.5>", LoraTag("a", 0.5, 0.5)),
        ("<lyco:a:0.5:0.25:8>", LoraTag("a", 0.5, 0.25, 8)),
        ("<lora:a:0.5:0.25:unet=1:dyn=4>", LoraTag("a", 0.5, 1.0, 4)),
        ("<lora:a:te=0.3>", LoraTag("a", 0.3, 0.3)),
    ],
)
def test_tags_say_how_strongly(text: str, expected: LoraTag) -> None:
    ((tag,),) = (cut_network_tags(text)[1],)
    assert LoraTag.read(tag) == expected


def test_hypernetwork_tags() -> None:
    plain, weighted = cut_network_tags("<hypernet:h><hypernet:h:-0.5>")[1]
    assert HypernetworkTag.read(plain) == HypernetworkTag("h", 1.0)
    assert HypernetworkTag.read(weighted) == HypernetworkTag("h", -0.5)


@pytest.mark.parametrize(
    "text", ["<lora:a:x>", "<lora:a:1:nan>", "<lora:a:dyn=0>", "<lora:a:1:1:2.5>", "<lora::1>"]
)
def test_tags_that_cannot_be_read_are_refused(text: str) -> None:
    (tag,) = cut_network_tags(text)[1]
    with pytest.raises(InvalidInput):
        LoraTag.read(tag)
