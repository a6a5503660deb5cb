"""Hypernetworks: x + net(x) · multiplier before keys and values, and nothing left afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.networks.hypernetwork import Hypernetwork, Structure, applied, read_hypernetwork
from tests.engine.conftest import Shape
from tests.engine.networks.files import rand, write


def contents(*widths: int, seed: int = 0, **metadata: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of two linear layers, [1, 2, 1], with ReLU after each: places 0 and 2."""
    tensors = {}
    for width in widths:
        for half in "kv":
            start = f"{width}.{half}.linear"
            number = seed + ord(half)
            tensors[f"{start}.0.weight"] = rand(2 * width, width, seed=number)
            tensors[f"{start}.0.bias"] = rand(2 * width, seed=number)
            tensors[f"{start}.2.weight"] = rand(width, 2 * width, seed=number + 1)
            tensors[f"{start}.2.bias"] = rand(width, seed=number + 1)
    return tensors, {"activation_func": "relu", **metadata}


def load(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Hypernetwork:
    return read_hypernetwork(write(path, tensors, metadata))


def dense(tensors: dict[str, Tensor], start: str, x: np.ndarray, activate_output: bool = True) -> np.ndarray:
    t = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    hidden = np.maximum(x @ t[f"{start}.0.weight"].T + t[f"{start}.0.bias"], 0)
    out = hidden @ t[f"{start}.2.weight"].T + t[f"{start}.2.bias"]
    return np.maximum(out, 0) if activate_output else out


@pytest.mark.parametrize("activate_output", [True, False])
def test_a_net_computes_its_formula(activate_output: bool, tmp_path: Path) -> None:
    tensors, metadata = contents(8)
    if not activate_output:  # absent means true
        metadata["activate_output"] = "false"
    net = load(tmp_path / "x.safetensors", tensors, metadata).nets[8][1]
    x = rand(5, 8)
    expected = dense(tensors, "8.v.linear", x.double().numpy(), activate_output)
    torch.testing.assert_close(net(x).double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_layer_norm_follows_the_activation() -> None:
    kinds = [type(layer).__name__ for layer in Structure((1, 2, 1), "swish", True, False).build(8)]
    assert kinds == ["Linear", "Hardswish", "LayerNorm", "Linear", "LayerNorm"]
    kinds = [type(layer).__name__ for layer in Structure((1, 1.5, 1), None, False, True).build(8)]
    assert kinds == ["Linear", "Linear"]


def attention_inputs(unet: Any, context: Tensor) -> list[tuple[str, str, Tensor]]:
    """(attention, half, input of its projection as the projection itself sees it) of one UNet call."""
    seen: list[tuple[str, str, Tensor]] = []
    handles = []
    for name, module in unet.named_modules():
        if isinstance(module, Attention):
            for half in "kv":

                def note(_: Any, inputs: Any, name: str = name, half: str = half) -> None:
                    seen.append((name, half, inputs[0].clone()))

                handles.append(getattr(module, f"to_{half}").register_forward_pre_hook(note))
    unet(rand(2, 4, 8, 8), torch.tensor([3.0, 500.0]), encoder_hidden_states=context)
    for handle in handles:
        handle.remove()
    return seen


@torch.inference_mode()
def test_keys_and_values_of_self_and_cross_attention_are_altered(tmp_path: Path) -> None:
    """Text is 8 wide, the attending level 16; the first attention met sees unaltered x before the net."""
    unet = Shape().modules()[0]
    context = rand(2, 77, 8)
    x, t = rand(2, 4, 8, 8), torch.tensor([3.0, 500.0])
    one = contents(8)
    other = contents(8, 16, seed=50)
    first, second = (load(tmp_path / f"{n}.safetensors", *made) for n, made in enumerate((one, other)))
    before = attention_inputs(unet, context)
    with applied(unet, [(first, 0.5), (second, -0.25)]):
        inside = attention_inputs(unet, context)
        output = unet(x, t, encoder_hidden_states=context).sample
    cross = [i for i, (name, _, _) in enumerate(before) if name.endswith("attn2")]
    assert len(cross) > 2
    for i in cross:  # the context is the same in every call: altered by the first, then by the second
        half = before[i][1]
        x0 = context.double().numpy()
        x1 = x0 + 0.5 * dense(one[0], f"8.{half}.linear", x0)
        x2 = x1 - 0.25 * dense(other[0], f"8.{half}.linear", x1)
        torch.testing.assert_close(inside[i][2].double(), torch.from_numpy(x2), rtol=1e-4, atol=1e-3)
    name, half, plain = before[0]
    assert (name.rpartition(".")[2], half) == ("attn1", "k")
    x0 = plain.double().numpy()
    expected = torch.from_numpy(x0 - 0.25 * dense(other[0], "16.k.linear", x0))
    torch.testing.assert_close(inside[0][2].double(), expected, rtol=1e-4, atol=1e-3)
    assert not output.allclose(unet(x, t, encoder_hidden_states=context).sample)


@torch.inference_mode()
def test_afterwards_nothing_is_left(tmp_path: Path) -> None:
    unet = Shape().modules()[0]
    hypernetwork = load(tmp_path / "x.safetensors", *contents(8, 16))
    arguments = (rand(1, 4, 8, 8), torch.tensor([3.0]))
    plain = unet(*arguments, encoder_hidden_states=rand(1, 77, 8)).sample
    with pytest.raises(RuntimeError), applied(unet, [(hypernetwork, 1.0)]):
        unet(rand(1, 3, 8, 8), torch.tensor([3.0]), encoder_hidden_states=rand(1, 77, 8))
    with applied(unet, [(hypernetwork, 0.0)]):
        assert not any(module._forward_pre_hooks for module in unet.modules())
    assert not any(module._forward_pre_hooks for module in unet.modules())
    assert unet(*arguments, encoder_hidden_states=rand(1, 77, 8)).sample.equal(plain)


@torch.inference_mode()
def test_half_precision_stays_half(tmp_path: Path) -> None:
    unet = Shape().modules()[0].half()
    hypernetwork = load(tmp_path / "x.safetensors", *contents(8, 16))
    with applied(unet, [(hypernetwork, 0.01)]):
        output = unet(
            rand(1, 4, 8, 8).half(), torch.tensor([3.0]), encoder_hidden_states=rand(1, 77, 8).half()
        ).sample
    assert output.dtype == torch.float16
    assert output.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: t.pop("8.k.linear.2.bias"), r"8\.k\.linear\.2\.bias is missing"),
        (
            lambda t, m: t.update({"8.k.linear.0.weight": rand(3, 3)}),
            r"8\.k\.linear\.0\.weight has the shape",
        ),
        (lambda t, m: t.update({"stranger": rand(3)}), "stranger is not known"),
        (lambda t, m: m.update(activation_func="prelu"), "'prelu' is not known"),
        (lambda t, m: m.update(layer_structure="[1, 1000000, 1]"), "cannot be built"),
        (lambda t, m: m.update(layer_structure="[2, 1]"), "cannot be built"),
        (lambda t, m: m.update(layer_structure="{"), "no JSON"),
        (lambda t, m: t.clear() or t.update({"emb_params": rand(2)}), "an embedding; a hypernetwork"),
    ],
)
def test_other_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    tensors, metadata = contents(8)
    change(tensors, metadata)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "x.safetensors", tensors, metadata)


def test_pickles_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({}, path)
    with pytest.raises(ModelFileError, match="a pickle") as refused:
        read_hypernetwork(ModelFile("x", path, ""))
    assert "convert" in str(refused.value.hint)
