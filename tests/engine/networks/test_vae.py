"""Autoencoders from files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.networks.vae import load_vae
from tests.engine.conftest import Shape
from tests.engine.networks.files import rand, write

CPU = torch.device("cpu")
PREFIX = "first_stage_model."


def vae_weights(shape: Shape = Shape(), prefix: str = "") -> dict[str, Tensor]:
    return {
        prefix + key.removeprefix(PREFIX): tensor
        for key, tensor in shape.weights().items()
        if key.startswith(PREFIX)
    }


def load(path: Path, tensors: dict[str, Tensor], shape: Shape = Shape()) -> Any:
    return load_vae(write(path, tensors, shape.all_metadata()), CPU)


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("shape", [Shape(), Shape(vae_widths=(4, 8), vae_layers=2, vae_attention=False)])
@torch.inference_mode()
def test_a_loaded_vae_equals_the_module_it_came_from(prefix: str, shape: Shape, tmp_path: Path) -> None:
    tensors = vae_weights(shape, prefix) | {
        f"{prefix}loss.logvar": rand(1), f"{prefix}model_ema.decay": rand(1), "loss_state": rand(2)
    }  # fmt: skip
    ours, theirs = load(tmp_path / "x.safetensors", tensors, shape), shape.modules()[1]
    latents = rand(1, 4, 4, 4)
    torch.testing.assert_close(ours.decode(latents).sample, theirs.decode(latents).sample)
    picture = rand(1, 3, 32, 32)
    torch.testing.assert_close(ours.encode(picture).latent_dist.mean, theirs.encode(picture).latent_dist.mean)
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_half_precision_becomes_full(tmp_path: Path) -> None:
    tensors = {key: tensor.half() for key, tensor in vae_weights().items()}
    assert load(tmp_path / "x.safetensors", tensors).dtype == torch.float32


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (Shape().weights(), "a checkpoint; a VAE was expected"),
        ({"emb_params": rand(2)}, "this is an embedding; a VAE"),
        ({"foo": rand(2), "bar": rand(3)}, "holds bar, foo"),
        ({"encoder.down_blocks.0.resnets.0.conv1.weight": rand(2)}, "diffusers' names"),
        ({k: v for k, v in vae_weights().items() if k != "quant_conv.bias"}, r"quant_conv\.bias is missing"),
        (vae_weights() | {"stranger": rand(2)}, "stranger is not known"),
        (vae_weights() | {"decoder.norm_out.weight": rand(3)}, r"norm_out\.weight has the shape"),
        (vae_weights() | {"encoder.conv_in.weight": rand(4, 4, 3, 3)}, "turns 4 channels into 3; 3 colours"),
        (vae_weights() | {"encoder.conv_in.weight": rand(4, 0, 3, 3)}, "sides of 1 to 131072 were expected"),
        ({"decoder.conv_in.weight": rand(2)}, "missing"),
    ],
)
def test_other_files_are_refused(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "x.safetensors", tensors)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors", vae_weights())
    file.path.write_bytes(file.path.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match="cut off"):
        load_vae(ModelFile("x", file.path, ""), CPU)
