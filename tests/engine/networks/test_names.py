"""Layers under every name that trainers give them (specification 4.1)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection

from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks.names import LAYERS, flat_name, split_key, targets
from tests.engine.conftest import Shape

SD1 = Shape(
    widths=(32, 32, 64, 64), attends=(True, True, True, False), layers=(2,) * 4, heads=8, groups=32,
    vae_widths=(32,) * 4, text_width=64,
)  # fmt: skip


@cache
def modules() -> tuple[Any, Any, Any]:
    return SD1.modules()


def layers(module: nn.Module) -> list[str]:
    return [path for path, layer in module.named_modules() if isinstance(layer, LAYERS)]


RESNET = {
    "conv1": "in_layers_2", "conv2": "out_layers_3", "norm1": "in_layers_0", "norm2": "out_layers_0",
    "time_emb_proj": "emb_layers_1", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "conv_in": "input_blocks_0_0", "conv_out": "out_2", "conv_norm_out": "out_0",
    "time_embedding.linear_1": "time_embed_0", "time_embedding.linear_2": "time_embed_2",
}  # fmt: skip


def compvis(path: str) -> str:
    """The specification's map for SD1's four levels of two blocks."""
    if path in ENDS:
        return ENDS[path]
    if match := re.fullmatch(r"mid_block\.(\w+)\.(\d)\.(.+)", path):
        part, number, rest = match[1], int(match[2]), match[3]
        return (
            f"middle_block_{2 * number}_{RESNET[rest]}"
            if part == "resnets"
            else f"middle_block_1_{rest.replace('.', '_')}"
        )
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", path)
    assert match
    way, b, part, a, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    block = f"input_blocks_{1 + 3 * b + a}" if way == "down" else f"output_blocks_{3 * b + a}"
    if part == "resnets":
        return f"{block}_0_{RESNET[rest]}"
    if part == "attentions":
        return f"{block}_1_{rest.replace('.', '_')}"
    if part == "downsamplers":
        return f"input_blocks_{3 + 3 * b}_0_op"
    return f"output_blocks_{2 + 3 * b}_{2 if b > 0 else 1}_conv"


@pytest.mark.parametrize("spelling", ["kohya", "compvis", "diffusers", "oft", "comfy"])
def test_every_layer_of_the_unet_is_found(spelling: str) -> None:
    unet = modules()[0]
    known = targets(unet, Component.UNET)
    assert len(layers(unet)) > 250
    for path in layers(unet):
        written = {
            "kohya": f"lora_unet_{path.replace('.', '_')}",
            "compvis": f"lora_unet_{compvis(path)}",
            "diffusers": f"unet.{path}",
            "oft": f"oft_unet_{path.replace('.', '_')}",
            "comfy": f"diffusion_model.{compvis(path)}",
        }[spelling]
        name, components = flat_name(written)
        assert components == (Component.UNET,)
        assert known[name] == path


@pytest.mark.parametrize(
    "prefix", ["lora_te_text_model_", "lora_te1_text_model_", "text_encoder.text_model."]
)
def test_every_layer_of_the_text_encoder_is_found(prefix: str) -> None:
    text = modules()[2]
    known = targets(text, Component.TEXT)
    for path in layers(text):
        flat = prefix + (path.replace(".", "_") if prefix.endswith("_") else path)
        name, components = flat_name(flat)
        assert components == (Component.TEXT,)
        assert known[name] == path


def test_the_second_text_encoder_and_unmarked_names() -> None:
    assert flat_name("lora_te2_text_model_final_layer_norm") == ("final_layer_norm", (Component.TEXT_2,))
    assert flat_name("text_encoder_2.text_projection") == ("text_projection", (Component.TEXT_2,))
    name, components = flat_name("base_model.model.text_model.encoder.layers.0.mlp.fc1")
    assert name == "encoder_layers_0_mlp_fc1"
    assert Component.TEXT in components
    assert Component.UNET in components


def test_sdxl_names_are_found() -> None:
    """Three levels, the first without attention; the size embedding; compvis names as kohya writes them."""
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4, attention_head_dim=(1, 2, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3), cross_attention_dim=8, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=32,
    )  # fmt: skip
    known = targets(unet, Component.UNET)
    for written, path in {
        "input_blocks_4_1_transformer_blocks_1_attn2_to_out_0":
            "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_out.0",
        "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
        "input_blocks_6_0_op": "down_blocks.1.downsamplers.0.conv",
        "middle_block_1_transformer_blocks_2_ff_net_0_proj":
            "mid_block.attentions.0.transformer_blocks.2.ff.net.0.proj",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_3_1_proj_out": "up_blocks.1.attentions.0.proj_out",
        "output_blocks_8_0_skip_connection": "up_blocks.2.resnets.2.conv_shortcut",
        "label_emb_0_0": "add_embedding.linear_1",
        "label_emb_0_2": "add_embedding.linear_2",
    }.items():  # fmt: skip
        name, _ = flat_name(f"lora_unet_{written}")
        assert known[name] == path
    assert {known[flat_name(f"unet.{path}")[0]] for path in layers(unet)} == set(layers(unet))


def test_text_encoders_may_keep_transformers_prefix() -> None:
    config = CLIPTextConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, projection_dim=8
    )
    text = CLIPTextModelWithProjection(config)
    known = targets(text, Component.TEXT_2)
    name, _ = flat_name("lora_te2_text_model_encoder_layers_0_self_attn_k_proj")
    assert text.get_submodule(known[name]) is text.text_model.encoder.layers[0].self_attn.k_proj
    assert known[flat_name("lora_te2_text_projection")[0]] == "text_projection"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lora_unet_x.lora_up.weight", ("lora_unet_x", "lora_up")),
        ("lora_unet_x.lora_mid.weight", ("lora_unet_x", "lora_mid")),
        ("lora_unet_x.alpha", ("lora_unet_x", "alpha")),
        ("lora_unet_x.weight", ("lora_unet_x", "weight")),
        ("lora_unet_x.a1.weight", ("lora_unet_x", "a1")),
        ("lora_unet_x.lokr_w1_a", ("lora_unet_x", "lokr_w1_a")),
        ("lora_unet_x.lokr_w1", ("lora_unet_x", "lokr_w1")),
        ("lora_unet_x.dora_scale", ("lora_unet_x", "dora_scale")),
        ("unet.a.to_out.0.lora_A.weight", ("unet.a.to_out.0", "lora_down")),
        ("unet.a.to_q.lora_B.default_0.weight", ("unet.a.to_q", "lora_up")),
        ("unet.a.to_q.lora_magnitude_vector.weight", ("unet.a.to_q", "magnitude")),
        ("unet.a.attn1.processor.to_out_lora.up.weight", ("unet.a.attn1.to_out.0", "lora_up")),
        ("unet.a.attn1.processor.to_k_lora.down.weight", ("unet.a.attn1.to_k", "lora_down")),
        ("text_encoder.a.q_proj.lora_linear_layer.up.weight", ("text_encoder.a.q_proj", "lora_up")),
        ("unet.a.to_q.lora.down.weight", ("unet.a.to_q", "lora_down")),
        ("something.else", None),
        ("alpha", None),
    ],
)
def test_keys_are_a_layer_and_a_part(key: str, expected: tuple[str, str] | None) -> None:
    assert split_key(key) == expected
