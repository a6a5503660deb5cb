"""Upscaler files: each layout against the published network in plain torch; wrong files refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header, TensorInfo, inspect
from cloudbrush.engine.models.checkpoint import Placement
from cloudbrush.engine.upscale import Upscaler, compact, load_upscaler, rrdb
from tests.engine.conftest import Shape
from tests.engine.networks.files import rand, write
from tests.engine.upscale.published import Rrdb, Srvgg, of_2018, of_2020, of_2021

CPU = Placement(torch.device("cpu"))
FILES: dict[str, tuple[Rrdb | Srvgg, int]] = {
    "ESRGAN 2018, 4x": (Rrdb(of_2018), 4),
    "ESRGAN 2018, 2x": (Rrdb(of_2018, doublings=1), 2),
    "ESRGAN 2018, 1x": (Rrdb(of_2018, doublings=0), 1),
    "ESRGAN 2018, 8x": (Rrdb(of_2018, blocks=1, doublings=3), 8),
    "ESRGAN 2020, 4x": (Rrdb(of_2020, blocks=3), 4),
    "BSRGAN, 2x": (Rrdb(of_2020, doublings=1), 2),
    "Real-ESRGAN, 4x": (Rrdb(of_2021), 4),
    "Real-ESRGAN, 2x": (Rrdb(of_2021, fold=2), 2),
    "Real-ESRGAN, 1x": (Rrdb(of_2021, fold=4), 1),
    "Real-ESRGAN compact, 4x": (Srvgg(), 4),
    "Real-ESRGAN compact, 2x": (Srvgg(scale=2, layers=5), 2),
}


def load(path: Path, tensors: dict[str, Tensor]) -> Upscaler:
    return load_upscaler(write(path, tensors), CPU)


@pytest.mark.parametrize("name", FILES)
@torch.inference_mode()
def test_a_loaded_network_computes_what_was_published(name: str, tmp_path: Path) -> None:
    made, scale = FILES[name]
    weights = made.weights()
    upscaler = load(tmp_path / "x.safetensors", weights)
    assert upscaler.scale == scale
    x = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    ours, theirs = upscaler.network(x), made.enlarged(weights, x)
    assert ours.shape == (1, 3, 8 * scale, 12 * scale)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_sides_that_do_not_fold_are_mirrored_and_cut(tmp_path: Path) -> None:
    """A last row and column beyond the image, as those before the last are; what comes of them is cut off."""
    made = Rrdb(of_2021, fold=2)
    network = load(tmp_path / "x.safetensors", made.weights()).network
    x = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    whole = torch.cat([x, x[:, :, -2:-1]], 2)
    whole = torch.cat([whole, whole[..., -2:-1]], 3)
    torch.testing.assert_close(
        network(x), made.enlarged(made.weights(), whole)[:, :, :14, :18], rtol=1e-5, atol=1e-5
    )
    assert network(x[:, :, :1, :1]).shape == (1, 3, 2, 2)


REAL = {
    # file -> what it is, tensors in it, some names and shapes of it
    "RealESRGAN_x4plus": (Rrdb(of_2021, blocks=23, width=64, growth=32), 702, {
        "conv_first.weight": (64, 3, 3, 3), "body.22.rdb3.conv5.weight": (64, 192, 3, 3),
        "body.0.rdb1.conv4.weight": (32, 160, 3, 3), "conv_up2.bias": (64,),
        "conv_last.weight": (3, 64, 3, 3),
    }),
    "RealESRGAN_x2plus": (Rrdb(of_2021, blocks=23, width=64, growth=32, fold=2), 702, {
        "conv_first.weight": (64, 12, 3, 3),
    }),
    "RealESRGAN_x4plus_anime_6B": (Rrdb(of_2021, blocks=6, width=64, growth=32), 192, {
        "body.5.rdb3.conv5.bias": (64,),
    }),
    "ESRGAN_4x": (Rrdb(of_2018, blocks=23, width=64, growth=32), 702, {
        "model.0.weight": (64, 3, 3, 3), "model.1.sub.22.RDB3.conv5.0.weight": (64, 192, 3, 3),
        "model.1.sub.23.weight": (64, 64, 3, 3), "model.3.weight": (64, 64, 3, 3), "model.6.bias": (64,),
        "model.8.weight": (64, 64, 3, 3), "model.10.weight": (3, 64, 3, 3),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_the_layout_of_published_files_is_read(name: str) -> None:
    """Of their full size, without their weights."""
    made, count, known = REAL[name]
    shapes = {f"{key}.weight": shape for key, shape in made.shapes().items()}
    shapes |= {f"{key}.bias": shape[:1] for key, shape in made.shapes().items()}
    assert len(shapes) == count
    assert known.items() <= shapes.items()
    header = Header({key: TensorInfo("F32", shape, 0, 0) for key, shape in shapes.items()}, {}, 0)
    assert inspect(header).kind == "upscaler"
    with torch.device("meta"):
        found = rrdb.read(header)
    assert found is not None
    network, scale, names = found
    assert scale == 4 // made.fold
    assert {names[own]: tuple(tensor.shape) for own, tensor in network.state_dict().items()} == shapes


def test_the_layout_of_compact_files_is_read() -> None:
    """realesr-animevideov3: 16 layers between the first and the last; realesr-general-x4v3: 32."""
    for layers in (16, 32):
        weights = {key: tuple(t.shape) for key, t in Srvgg(layers=layers, width=64).weights().items()}
        assert weights[f"body.{2 * layers + 2}.weight"] == (48, 64, 3, 3)
        header = Header({key: TensorInfo("F32", shape, 0, 0) for key, shape in weights.items()}, {}, 0)
        assert inspect(header).kind == "upscaler"
        with torch.device("meta"):
            found = compact.read(header)
        assert found is not None
        assert {key: tuple(t.shape) for key, t in found[0].state_dict().items()} == weights


def test_half_precision_files_load(tmp_path: Path) -> None:
    weights = {key: tensor.half() for key, tensor in Rrdb(of_2021).weights().items()}
    network = load(tmp_path / "x.safetensors", weights).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def plain(scale: int = 2, bias: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> dict[str, Tensor]:
    """A network that only repeats pixels, and adds to each of the three channels that it sees."""
    weights = {
        key: torch.zeros_like(tensor) for key, tensor in Srvgg(scale=scale, layers=0).weights().items()
    }
    weights["body.2.bias"] = torch.tensor(bias).repeat_interleave(scale**2)
    return weights


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def test_an_image_comes_out_rounded_and_in_its_colours(tmp_path: Path) -> None:
    """The network sees blue, green, red, as the WebUI's do."""
    upscaler = load(tmp_path / "x.safetensors", plain(bias=(1.0, 0.6 / 255, 0.4 / 255)))
    image = picture(5, 4)
    given, made = np.array(image), np.array(upscaler(image))
    assert made.shape == (8, 10, 3)
    expected = given.repeat(2, 0).repeat(2, 1)
    assert (made[..., 0] == expected[..., 0]).all()
    assert (made[..., 1] == expected[..., 1] + 1).all()
    assert (made[..., 2] == 255).all()
    assert np.array(upscaler(image.convert("L"))).shape == (8, 10, 3)


def test_a_large_image_goes_through_in_tiles_and_may_be_stopped(tmp_path: Path) -> None:
    upscaler = load(tmp_path / "x.safetensors", plain())
    image = picture(400, 200)
    asked: list[int] = []
    made = upscaler(image, lambda: asked.append(0))
    assert (np.array(made) == np.array(image).repeat(2, 0).repeat(2, 1)).all()
    assert len(asked) == 6  # three columns of tiles in two rows

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscaler(image, stop)


def without(weights: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if name != key}


NEW, OLD, SMALL = Rrdb(of_2021).weights(), Rrdb(of_2018).weights(), Srvgg().weights()
CONV = "body.0.rdb1.conv1.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (Shape().weights(), "this is a checkpoint; an upscaler was expected"),
        ({"lora_unet_x.diff": rand(2)}, "this is a LoRA; an upscaler"),
        ({"emb_params": rand(2)}, "this is an embedding; an upscaler"),
        ({"decoder.conv_in.weight": rand(2), "x": rand(3)}, "this is a VAE; an upscaler"),
        ({"conv_first.weight": rand(2), "layers.0.residual_group.blocks.0.norm1.weight": rand(3)},
         "a SwinIR upscaler"),
        ({"conv_first.weight": rand(2), "before_RG.1.weight": rand(3)}, "a DAT upscaler"),
        ({"m_head.0.weight": rand(2), "m_tail.0.weight": rand(3)}, "a ScuNET upscaler"),
        ({"conv_first.weight": rand(2), "foo": rand(3)}, "an upscaler of a kind that Cloudbrush does not"),
        ({"foo": rand(2), "bar": rand(3)}, "no kind of model Cloudbrush knows; it holds bar, foo"),
        (without(NEW, "conv_last.bias"), r"conv_last\.bias is missing"),
        (without(NEW, CONV), "does not know"),
        (without(NEW, "body.1.rdb1.conv1.weight"), "not known in an upscaler"),
        (without(OLD, "model.6.weight"), "not in the order of ESRGAN's"),
        (without(SMALL, "body.4.weight"), "with two sides or more"),
        (without(SMALL, "body.5.weight"), "not known in an upscaler"),
        (NEW | {CONV: rand(4, 7, 3, 3)}, r"has the shape \(4, 7, 3, 3\); expected was \(4, 6, 3, 3\)"),
        (NEW | {CONV: rand(4)}, "with two sides or more"),
        (NEW | {"conv_first.weight": rand(6, 5, 3, 3)}, "first layer takes in no picture"),
        (NEW | {"conv_first.weight": rand(6, 192, 3, 3)}, "first layer takes in no picture"),
        (NEW | {"conv_first.weight": rand(0, 3, 3, 3)}, "has the shape"),
        (NEW | {"stranger": rand(2)}, "stranger is not known in an upscaler"),
        (NEW | {CONV: rand(4, 6, 3, 3).int()}, "stored as I32"),
        (Rrdb(of_2021, doublings=4).weights(), "doubles 4 times; 3 are known"),
        (SMALL | {"body.8.weight": rand(300, 6, 3, 3), "body.8.bias": rand(300)}, "picture of 1 to 8 times"),
        (SMALL | {"body.0.weight": torch.tensor(1.0)}, "with two sides or more"),
        (SMALL | {"body.8.bias": rand(7)}, r"body\.8\.bias has the shape"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_what_they_are(
    tensors: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=message) as refused:
        load(tmp_path / "x.safetensors", tensors)
    assert refused.value.field == "hires.upscaler"
