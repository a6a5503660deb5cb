"""Checkpoints of real size, without their weights: modules on the meta device take no memory.

Configurations are those that Stability published with the diffusers versions of their models.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from cloudbrush.domain.model_file import Header, TensorInfo, inspect
from cloudbrush.engine.models import keys
from cloudbrush.engine.models.checkpoint import Skeleton
from cloudbrush.engine.models.families import FAMILIES
from cloudbrush.engine.models.layout import read_layout

C, D = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
SIZED = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
UNETS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "sd2": ((C, C, C, D), {
        "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
    }),
    "sdxl": ((D, C, C), {
        "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048,
        "projection_class_embeddings_input_dim": 2816, **SIZED,
    }),
    "sdxl-refiner": ((D, C, C, D), {
        "block_out_channels": (384, 768, 1536, 1536), "attention_head_dim": (6, 12, 24, 24),
        "transformer_layers_per_block": (4, 4, 4, 4), "cross_attention_dim": 1280,
        "projection_class_embeddings_input_dim": 2560, **SIZED,
    }),
}  # fmt: skip
H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
BIG = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
SMALL = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TEXTS = {
    "sd2": [CLIPTextConfig(**H, hidden_act="gelu")],
    "sdxl": [CLIPTextConfig(**SMALL), CLIPTextConfig(**BIG, hidden_act="gelu", projection_dim=1280)],
    "sdxl-refiner": [CLIPTextConfig(**BIG, hidden_act="gelu", projection_dim=1280)],
}
WELL_KNOWN = {  # names and shapes that every file of the family has
    "sd2": {
        "cond_stage_model.model.positional_embedding": (77, 1024),
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": (3072, 1024),
        "cond_stage_model.model.transformer.resblocks.22.mlp.c_proj.bias": (1024,),
        "model.diffusion_model.middle_block.1.proj_in.weight": (1280, 1280),
    },
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048),
        "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_bias": (3840,),
    },
    "sdxl-refiner": {
        "model.diffusion_model.label_emb.0.2.weight": (1536, 1536),
        "model.diffusion_model.middle_block.1.transformer_blocks.3.attn2.to_v.weight": (1536, 1280),
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (384, 768, 1, 1),
        "conditioner.embedders.0.model.ln_final.weight": (1280,),
    },
}


def modules(name: str, channels: int) -> tuple[Any, Any, list[Any]]:
    kinds, config = UNETS[name]
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            in_channels=channels, use_linear_projection=True,
            down_block_types=tuple(kind[0] for kind in kinds),
            up_block_types=tuple(kind[1] for kind in reversed(kinds)), **config,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        texts = [
            CLIPTextModelWithProjection(config) if config.hidden_size == 1280 else CLIPTextModel(config)
            for config in TEXTS[name]
        ]
    return unet, vae, texts


def header_of(name: str, unet: Any, vae: Any, texts: list[Any]) -> Header:
    """The header of the single file with these modules, by the engine's map; one unread layer for SD2."""
    weights = keys.to_ldm(unet.state_dict(), vae.state_dict(), {}, (2,) * len(UNETS[name][0]))
    shapes = {key: tuple(weight.shape) for key, weight in weights.items()}
    for part, text in zip(FAMILIES[name].texts, texts, strict=True):
        own = text.state_dict()
        for key, place in keys.text_names(own, part.prefixes[0], open_clip=part.open_clip).items():
            stands = (place, tuple(own[key].shape))
            shapes |= [stands if isinstance(place, str) else (place.name, place.shape(stands[1]))]
        if part.dropped:
            shapes[f"{part.prefixes[0]}transformer.resblocks.23.ln_1.weight"] = (1024,)
    return Header({key: TensorInfo("F16", shape, 0, 0) for key, shape in shapes.items()}, {}, 0)


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("name", UNETS)
def test_the_names_and_the_layout_of_a_real_file(name: str, channels: int) -> None:
    unet, vae, texts = modules(name, channels)
    header = header_of(name, unet, vae, texts)
    assert inspect(header).family == name
    assert {key: header.shape(key) for key in WELL_KNOWN[name]} == WELL_KNOWN[name]
    layout = read_layout(header, FAMILIES[name])
    for key, value in UNETS[name][1].items():
        if key != "transformer_layers_per_block":  # where a level does not attend, it says nothing
            assert layout.unet[key] == value, key
    assert layout.unet["in_channels"] == channels
    built = Skeleton.build(layout, FAMILIES[name])
    for own, other in zip([built.unet, built.vae, *(text.module for text in built.text)],
                          [unet, vae, *texts], strict=True):  # fmt: skip
        shapes = {key: tensor.shape for key, tensor in own.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in other.state_dict().items()}
    for text, config in zip(built.text, TEXTS[name], strict=True):
        for key in ("num_attention_heads", "hidden_act", "num_hidden_layers"):
            assert getattr(text.core.config, key) == getattr(config, key)


def test_sd2_files_may_lack_the_layer_that_nobody_reads() -> None:
    """As they come from diffusers' folders: 23 layers in place of 24; all of them count."""
    unet, vae, texts = modules("sd2", 4)
    whole = header_of("sd2", unet, vae, texts)
    assert "cond_stage_model.model.transformer.resblocks.23.ln_1.weight" in whole
    short = {key: tensor for key, tensor in whole.tensors.items() if ".resblocks.23." not in key}
    for header in (whole, Header(short, {}, 0)):
        assert read_layout(header, FAMILIES["sd2"]).texts[0]["num_hidden_layers"] == 23


def test_sd2_turbo_is_laid_out_like_a_refiner_but_is_none() -> None:
    unet, vae, texts = modules("sd2", 4)
    header = header_of("sd2", unet, vae, texts)
    theirs = {
        key.replace("cond_stage_model.model.", "conditioner.embedders.0.model."): tensor
        for key, tensor in header.tensors.items()
    }
    turbo = Header(theirs, {}, 0)
    assert inspect(turbo).family == "sd2"
    assert read_layout(turbo, FAMILIES["sd2"]).texts[0]["hidden_size"] == 1024
