"""Networks of SDXL: two text encoders, a denoiser under LDM's or diffusers' names, everything at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks.lora import Network, bind, read_network, unmatched
from cloudbrush.engine.networks.names import flat_name, targets
from cloudbrush.engine.networks.patches import Patches, Wanted
from tests.engine.networks.files import rand, write
from tests.engine.networks.test_patches import assert_same_bits, state
from tests.engine.test_real_layouts import modules
from tests.engine.tiny_families import SDXL

COMPONENTS = (Component.UNET, Component.TEXT, Component.TEXT_2)
ATTENTION = [f"attn{number}_to_{part}" for number in (1, 2) for part in ("q", "k", "v", "out_0")]
FORWARD = ["ff_net_0_proj", "ff_net_2"]


def written_by_kohya() -> Iterator[str]:
    """The layers that kohya's scripts train by default, as files of SDXL LoRAs name them.

    They say themselves how many those are: 722 in the denoiser, 72 and 192 in the text encoders.
    """
    depths = {f"input_blocks_{block}_1": depth for block, depth in ((4, 2), (5, 2), (7, 10), (8, 10))}
    depths |= {"middle_block_1": 10}
    depths |= {f"output_blocks_{block}_1": 10 if block < 3 else 2 for block in range(6)}
    for block, depth in depths.items():
        yield from (f"lora_unet_{block}_{part}" for part in ("proj_in", "proj_out"))
        for number in range(depth):
            start = f"lora_unet_{block}_transformer_blocks_{number}_"
            yield from (f"{start}{part}" for part in (*ATTENTION, *FORWARD))
    for prefix, layers in (("lora_te1", 12), ("lora_te2", 32)):
        for number in range(layers):
            start = f"{prefix}_text_model_encoder_layers_{number}_"
            yield from (f"{start}self_attn_{part}_proj" for part in ("q", "k", "v", "out"))
            yield from (f"{start}mlp_{part}" for part in ("fc1", "fc2"))


def the_rest() -> Iterator[str]:
    """What is left of the denoiser, as files of LoCon and LyCORIS name it."""
    blocks = [f"input_blocks_{block}" for block in (1, 2, 4, 5, 7, 8)]
    blocks += [f"output_blocks_{block}" for block in range(9)]
    for block in (*(f"{block}_0" for block in blocks), "middle_block_0", "middle_block_2"):
        yield from (f"lora_unet_{block}_{part}" for part in ("in_layers_2", "emb_layers_1", "out_layers_3"))
    for block in ("input_blocks_4", "input_blocks_7", *blocks[6:]):  # where widths change
        yield f"lora_unet_{block}_0_skip_connection"
    yield from (f"lora_unet_input_blocks_{block}_0_op" for block in (3, 6))
    yield from (f"lora_unet_output_blocks_{block}_2_conv" for block in (2, 5))
    for end in (
        "input_blocks_0_0",
        "out_2",
        "time_embed_0",
        "time_embed_2",
        "label_emb_0_0",
        "label_emb_0_2",
    ):
        yield f"lora_unet_{end}"


def test_every_layer_of_the_denoiser_has_its_name_in_files() -> None:
    unet = modules("sdxl", 4)[0]
    known = targets(unet, Component.UNET)
    written = [name for name in (*written_by_kohya(), *the_rest()) if name.startswith("lora_unet_")]
    found = [known[flat_name(name)[0]] for name in written]
    layers = {path for path, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    assert len(found) == len(set(found))
    assert set(found) == layers


def test_every_layer_that_kohya_trains_is_found_in_a_model_of_full_size() -> None:
    unet, _, texts = modules("sdxl", 4)
    known = dict(zip(COMPONENTS, (targets(m, c) for m, c in zip((unet, *texts), COMPONENTS, strict=True)),
                     strict=True))  # fmt: skip
    counts = dict.fromkeys(COMPONENTS, 0)
    for written in written_by_kohya():
        name, (component,) = flat_name(written)
        assert name in known[component], written
        counts[component] += 1
    assert tuple(counts.values()) == (722, 72, 192)
    path = known[Component.UNET]["input_blocks_8_1_transformer_blocks_9_attn2_to_k"]
    assert path == "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k"
    assert tuple(unet.get_submodule(path).weight.shape) == (1280, 2048)
    path = known[Component.UNET]["output_blocks_5_1_proj_out"]
    assert path == "up_blocks.1.attentions.2.proj_out"
    assert tuple(unet.get_submodule(path).weight.shape) == (640, 640)


@pytest.fixture
def parts() -> tuple[nn.Module, ...]:
    unet, _, texts = SDXL.modules()
    return tuple(module.requires_grad_(False) for module in (unet, *texts))


def trained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The linear layers of attention and what follows it, by path."""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and any(part in path for part in ("attn", "mlp", ".ff.", "proj_")):
            yield path, layer.weight


def factors(weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    out, inputs = weight.shape
    return rand(out, 2, seed=seed), rand(2, inputs, seed=seed + 1)


def of_kohya(component: Component, path: str) -> str:
    prefix = {Component.UNET: "lora_unet_", Component.TEXT: "lora_te1_text_model_"}
    bare = path.removeprefix("text_model.").replace(".", "_")
    return prefix.get(component, "lora_te2_text_model_") + bare


def of_diffusers(component: Component, path: str) -> str:
    middle = "" if component == Component.UNET else "text_model."
    return f"{component.value}.{middle}{path.removeprefix('text_model.')}"


SPELLINGS = {"kohya": (of_kohya, "lora_up", "lora_down"), "diffusers": (of_diffusers, "lora_B", "lora_A")}


def network(path: Path, parts: tuple[nn.Module, ...], spelling: str, seed: int = 0) -> Network:
    """A LoRA of all three modules; `alpha` is 1, the rank 2."""
    layer_of, up_name, down_name = SPELLINGS[spelling]
    tensors: dict[str, Tensor] = {}
    for component, module in zip(COMPONENTS, parts, strict=True):
        for number, (place, weight) in enumerate(trained(module)):
            up, down = factors(weight, seed + number)
            layer = layer_of(component, place)
            tensors |= {f"{layer}.{up_name}.weight": up, f"{layer}.{down_name}.weight": down}
            tensors[f"{layer}.alpha"] = torch.tensor(1.0)
    return read_network(write(path, tensors, {"ss_base_model_version": "sdxl_base_v1-0"}))


def patched(parts: tuple[nn.Module, ...]) -> list[Patches]:
    return [Patches(module, component) for module, component in zip(parts, COMPONENTS, strict=True)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_lora_acts_on_all_three_modules_at_their_strengths(
    spelling: str, parts: tuple[nn.Module, ...], tmp_path: Path
) -> None:
    lora = network(tmp_path / "x.safetensors", parts, spelling)
    assert lora.family == "sdxl"
    before = [{path: weight.double() for path, weight in trained(module)} for module in parts]
    modules = patched(parts)
    assert not unmatched(lora, [module.bound(lora) for module in modules])
    for module in modules:
        module.set([Wanted(lora, te=0.25, unet=-0.5)])
    for component, module, old in zip(COMPONENTS, parts, before, strict=True):
        assert len(old) > 10
        for number, (path, weight) in enumerate(trained(module)):
            up, down = (factor.double() for factor in factors(weight, number))
            strength = -0.5 if component == Component.UNET else 0.25
            expected = old[path] + strength * (up @ down) / 2
            torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-5)


def test_both_spellings_are_one_network(parts: tuple[nn.Module, ...], tmp_path: Path) -> None:
    loaded = [network(tmp_path / f"{name}.safetensors", parts, name) for name in SPELLINGS]
    found = []
    for lora in loaded:
        bounds = [
            bind(lora, module, targets(module, component), component)
            for module, component in zip(parts, COMPONENTS, strict=True)
        ]
        found.append([set(bound.layers) for bound in bounds])
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_several_at_once_leave_no_bit_behind(
    dtype: torch.dtype, parts: tuple[nn.Module, ...], tmp_path: Path
) -> None:
    one = network(tmp_path / "one.safetensors", parts, "kohya")
    two = network(tmp_path / "two.safetensors", parts, "diffusers", seed=50)
    other = read_network(write(tmp_path / "other.safetensors", odd_kinds(parts[0])))
    for module in parts:
        module.to(dtype)
    before = [state(module) for module in parts]
    modules = patched(parts)
    outputs: list[Any] = []
    for wanted in ([one], [one, two, other], [other, one], [two], []):
        for module in modules:
            module.set([Wanted(each, te=0.7, unet=0.3) for each in wanted])
        outputs.append(parts[1].get_parameter("encoder.layers.0.mlp.fc1.weight").clone())
    assert not outputs[0].equal(outputs[1])
    for part, old in zip(parts, before, strict=True):
        assert_same_bits(part, old)


def odd_kinds(unet: nn.Module) -> dict[str, Tensor]:
    """Kinds beside the low-rank one, at layers under LDM's names."""
    embedding = unet.get_submodule("add_embedding.linear_1").weight
    conv = unet.get_submodule("down_blocks.1.resnets.0.conv1").weight
    return {
        "lora_unet_label_emb_0_0.diff": rand(*embedding.shape),
        "lora_unet_label_emb_0_0.diff_b": rand(embedding.shape[0]),
        "lora_unet_out_0.w_norm": rand(8),
        "lora_unet_out_0.b_norm": rand(8),
        "lora_unet_input_blocks_4_0_in_layers_2.lora_up.weight": rand(conv.shape[0], 2, 1, 1),
        "lora_unet_input_blocks_4_0_in_layers_2.lora_down.weight": rand(2, *conv.shape[1:]),
        "lora_unet_input_blocks_4_0_in_layers_2.dora_scale": rand(1, conv.shape[1], 1, 1),
        "lora_unet_time_embed_2.oft_blocks": rand(4, 8, 8),
        "lora_unet_time_embed_2.rescale": rand(32, 1),
    }


def test_odd_kinds_find_their_layers(parts: tuple[nn.Module, ...], tmp_path: Path) -> None:
    unet = parts[0]
    other = read_network(write(tmp_path / "other.safetensors", odd_kinds(unet)))
    module = Patches(unet, Component.UNET)
    assert set(module.bound(other).layers) == {
        "add_embedding.linear_1", "conv_norm_out", "down_blocks.1.resnets.0.conv1", "time_embedding.linear_2"
    }  # fmt: skip
    assert not unmatched(other, [module.bound(other)])
