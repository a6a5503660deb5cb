"""Every kind of model in its old formats becomes what the engine reads, number for number."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import Conflict, ModelFileError
from cloudbrush.domain.model_file import read_header
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models.checkpoint import Placement
from cloudbrush.engine.models.single_file import load_single_file
from cloudbrush.engine.networks.embedding import read_embedding
from cloudbrush.engine.networks.hypernetwork import read_hypernetwork
from cloudbrush.engine.networks.lora import read_network
from tests.conversion.files import converted, rand, saved
from tests.engine.conftest import Shape
from tests.engine.networks.files import lora_for


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].equal(tensor), name


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of a training library that is not installed where models are read."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    made = type("ModelCheckpoint", (), {"__module__": name})
    sys.modules[name].ModelCheckpoint = made  # type: ignore[attr-defined]
    return made


def test_a_checkpoint_with_all_that_its_training_left_in_it(callback: type, tmp_path: Path) -> None:
    weights = Shape().weights()
    content = {
        "epoch": 3, "global_step": 875000, "pytorch-lightning_version": "1.4.2", "state_dict": weights,
        "callbacks": {callback: {"best": np.float64(0.5), "path": Path("x.ckpt"), "all": np.ones(3)}},
        "optimizer_states": [{"state": {0: {"step": 3, "exp_avg": rand(3)}}}], "lr_schedulers": [],
    }  # fmt: skip
    tensors, info = converted(saved(tmp_path / "x.ckpt", content))
    same(tensors, weights)
    assert (info.kind, info.family) == (AssetKind.CHECKPOINT, "sd1")


def test_arrays_in_place_of_tensors_are_refused_not_lost(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"its b is an array of numpy; a tensor was expected"):
        converted(saved(tmp_path / "x.ckpt", {"state_dict": {"a": rand(2), "b": np.ones(2)}}))


def test_a_converted_checkpoint_loads(tmp_path: Path) -> None:
    """Of a shape whose layout says all: four levels, as SD1's own."""
    shape = Shape(widths=(32, 32, 64, 64), attends=(True, True, True, False), layers=(2,) * 4, heads=8,
                  groups=32, vae_widths=(32,) * 4, text_width=64)  # fmt: skip
    converted(saved(tmp_path / "x.ckpt", {"state_dict": {k: t.half() for k, t in shape.weights().items()}}))
    placement = Placement(torch.device("cpu"))
    loaded = load_single_file(tmp_path / "x.new.safetensors", name="x", sha256="", placement=placement)
    expected = shape.modules()[0].conv_in.weight.half().float()
    assert loaded.unet.conv_in.weight.equal(expected)


def test_a_lora(tmp_path: Path) -> None:
    tensors = lora_for(Shape().modules()[0], "lora_unet_")
    found, info = converted(saved(tmp_path / "x.pt", tensors))
    same(found, tensors)
    assert (info.kind, info.family) == (AssetKind.LORA, None)  # any metadata would mean SD1
    network = read_network(ModelFile("x", tmp_path / "x.new.safetensors", ""))
    assert len(network.units) == sum(key.endswith(".alpha") for key in tensors)


VECTORS = rand(3, 768)


def parameters() -> nn.ParameterDict:
    return nn.ParameterDict({"*": nn.Parameter(VECTORS.clone())})


@pytest.mark.parametrize(
    "content",
    [
        {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "cat", "step": 500,
         "sd_checkpoint": "cc6cb27103", "sd_checkpoint_name": "v1-5"},
        {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": nn.Parameter(VECTORS)}},
        {"string_to_token": {"*": 265}, "string_to_param": parameters()},
        {"<cat>": VECTORS},
        {"emb_params": VECTORS.clone()},
    ],
    ids=["of the WebUI", "with a parameter", "of the paper's code", "of diffusers", "bare"],
)  # fmt: skip
@pytest.mark.parametrize("old", [False, True])
def test_an_embedding(content: Any, old: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", content, _use_new_zipfile_serialization=not old)
    assert converted(path)[1].kind == AssetKind.EMBEDDING
    embedding = read_embedding(ModelFile("x", tmp_path / "x.new.safetensors", ""))
    assert embedding.vectors[0].equal(VECTORS)


def test_an_embedding_of_one_vector_and_one_of_sdxl(tmp_path: Path) -> None:
    converted(saved(tmp_path / "x.bin", {"<cat>": rand(768)}))
    embedding = read_embedding(ModelFile("x", tmp_path / "x.new.safetensors", ""))
    assert embedding.vectors[0].equal(rand(768)[None])
    pair = {"clip_l": rand(2, 768), "clip_g": rand(2, 1280)}
    assert converted(saved(tmp_path / "y.pt", pair))[1].family == "sdxl"
    embedding = read_embedding(ModelFile("y", tmp_path / "y.new.safetensors", ""))
    assert embedding.vectors[1].equal(pair["clip_g"])


def nets(width: int, places: tuple[str, str], seed: int = 0) -> list[dict[str, Tensor]]:
    """Two layers, widening and narrowing, for keys and for values."""
    return [
        {
            f"{places[0]}.weight": rand(2 * width, width, seed=seed + half),
            f"{places[0]}.bias": rand(2 * width, seed=seed + half),
            f"{places[1]}.weight": rand(width, 2 * width, seed=seed + half),
            f"{places[1]}.bias": rand(width, seed=seed + half),
        }
        for half in (1, 2)
    ]


@pytest.mark.parametrize(
    ("places", "settings"),
    [
        (("linear.0", "linear.2"), {"activation_func": "relu", "layer_structure": [1, 2, 1]}),
        (("linear.0", "linear.3"), {"activation_func": "relu", "use_dropout": True, "is_layer_norm": False}),
        (("linear.0", "linear.1"), {"activation_func": None, "layer_structure": None}),
        (("linear.0", "linear.2"), {"activation_func": "relu", "activate_output": False}),
        (("linear1", "linear2"), {}),
    ],
    ids=["plain", "with dropout", "linear", "linear at its end", "very old"],
)
def test_a_hypernetwork(places: tuple[str, str], settings: dict[str, Any], tmp_path: Path) -> None:
    content = {8: tuple(nets(8, places)), 16: nets(16, places), "step": 5, "name": "h", "optional_info": None}
    tensors, info = converted(saved(tmp_path / "x.pt", content | settings))
    assert info.kind == AssetKind.HYPERNETWORK
    assert len(tensors) == 16
    loaded = read_hypernetwork(ModelFile("h", tmp_path / "x.new.safetensors", ""))
    for width in (8, 16):
        for net, state in zip(loaded.nets[width], content[width], strict=True):
            x = rand(5, width)
            relu = nn.ReLU() if settings.get("activation_func") else nn.Identity()
            hidden = relu(x @ state[f"{places[0]}.weight"].T + state[f"{places[0]}.bias"])
            out = hidden @ state[f"{places[1]}.weight"].T + state[f"{places[1]}.bias"]
            out = out if settings.get("activate_output") is False else relu(out)
            torch.testing.assert_close(net(x), out, rtol=1e-4, atol=1e-4)


def test_a_hypernetworks_norms_keep_their_places(tmp_path: Path) -> None:
    """Linear, activation, norm; twice: places 0, 2, 3 and 5 have weights."""
    (state, other) = nets(8, ("linear.0", "linear.3"))
    for net in (state, other):
        net |= {f"linear.{place}.{leaf}": rand(width) for place, width in ((2, 16), (5, 8))
                for leaf in ("weight", "bias")}  # fmt: skip
    content = {8: (state, other), "is_layer_norm": True, "activation_func": "tanh"}
    converted(saved(tmp_path / "x.pt", content))
    net = read_hypernetwork(ModelFile("h", tmp_path / "x.new.safetensors", "")).nets[8][0]
    assert [type(layer).__name__ for layer in net] == ["Linear", "Tanh", "LayerNorm"] * 2
    assert net[5].weight.equal(rand(8))


@pytest.mark.parametrize(
    "change",
    [
        {8: ()}, {8: ({}, {})}, {8: (3, 3)}, {8: ({"linear.0.weight": 3},) * 2},
        {8: ({"evil.0.weight": rand(16, 8)},) * 2}, {"layer_structure": [1, 3, 1]},
        {"layer_structure": [1, 2, 2, 1]}, {"layer_structure": [1, 10**9, 1]}, {"layer_structure": "1, 2, 1"},
        {-8: tuple(nets(8, ("linear.0", "linear.2")))},
    ],
)  # fmt: skip
def test_a_broken_hypernetwork_is_refused(change: Any, tmp_path: Path) -> None:
    content = {8: tuple(nets(8, ("linear.0", "linear.2"))), "activation_func": "relu"} | change
    with pytest.raises(ModelFileError):
        converted(saved(tmp_path / "x.pt", content))


def test_a_vae(tmp_path: Path) -> None:
    start = "first_stage_model."
    weights = {key.removeprefix(start): t for key, t in Shape().weights().items() if key.startswith(start)}
    found, info = converted(saved(tmp_path / "x.vae.pt", {"state_dict": weights, "epoch": 1}))
    same(found, weights)
    assert info.kind == AssetKind.VAE


UPSCALERS = {
    "esrgan": {"model.0.weight": rand(8, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": rand(4, 8, 3, 3)},
    "real-esrgan": {"conv_first.weight": rand(8, 3, 3, 3), "body.0.rdb1.conv1.weight": rand(4, 8, 3, 3)},
    "compact": {"body.0.weight": rand(8, 3, 3, 3), "body.0.bias": rand(8), "body.1.weight": rand(8)},
}


@pytest.mark.parametrize("name", UPSCALERS)
@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: {"params": w}, lambda w: {"params_ema": w, "params": {}}]
)
def test_an_upscaler(name: str, wrap: Any, tmp_path: Path) -> None:
    found, info = converted(saved(tmp_path / "x.pth", wrap(UPSCALERS[name])))
    same(found, UPSCALERS[name])
    assert info.kind == AssetKind.UPSCALER


def test_a_kind_that_is_asked_for_is_checked(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"<cat>": rand(768)})
    with pytest.raises(ModelFileError, match=r"x\.pt: it is an embedding; a LoRA was expected"):
        converted(path, AssetKind.LORA)
    odd = saved(tmp_path / "odd.pt", {"a": rand(2), "b": rand(2)})
    with pytest.raises(ModelFileError, match=r"odd\.pt: this is no kind of model Cloudbrush knows"):
        converted(odd)
    assert converted(odd, AssetKind.LORA)[1].kind == AssetKind.LORA


def test_what_is_noted_becomes_metadata(tmp_path: Path) -> None:
    content = {"string_to_param": {"*": VECTORS}, "name": "cat", "step": 500, "sd_checkpoint": None}
    converted(saved(tmp_path / "x.pt", content))
    with (tmp_path / "x.new.safetensors").open("rb") as file:
        assert read_header(file).metadata == {"name": "cat", "step": "500"}
    converted(saved(tmp_path / "h.pt", {8: tuple(nets(8, ("linear.0", "linear.1")))}))
    with (tmp_path / "h.new.safetensors").open("rb") as file:
        assert json.loads(read_header(file).metadata["layer_structure"]) == [1, 2, 1]


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"<cat>": rand(768)})
    (tmp_path / "x.new.safetensors").write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        converted(path)
    assert (tmp_path / "x.new.safetensors").read_text() == "mine"
