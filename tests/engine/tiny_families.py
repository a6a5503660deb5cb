"""Tiny checkpoints of every family, random but lively, as single files and as modules.

Text encoders are written under OpenCLIP's names by a map of this file's own. The map of denoiser and
autoencoder is the engine's; `test_families` reads what it writes with diffusers' converter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from cloudbrush.engine.models import keys
from tests.engine.conftest import CROSS, PLAIN, jitter

CLIP, OPEN_CLIP = "clip", "open_clip"
WAVES = 8  # numbers per number that SDXL's denoiser is told
POOLED = 12  # width of the text as a whole


@dataclass(frozen=True)
class Text:
    """A text encoder: its place in single files, and its shape."""

    prefix: str
    kind: str
    width: int
    layers: int = 3
    pooled: bool = False

    def module(self) -> Any:
        config = CLIPTextConfig(
            hidden_size=self.width, intermediate_size=2 * self.width, num_hidden_layers=self.layers,
            num_attention_heads=2, projection_dim=POOLED if self.pooled else self.width,
            hidden_act="gelu" if self.kind == OPEN_CLIP else "quick_gelu",
        )  # fmt: skip
        return CLIPTextModelWithProjection(config) if self.pooled else CLIPTextModel(config)

    def weights(self, module: Any) -> dict[str, Tensor]:
        named = {name.removeprefix("text_model."): tensor for name, tensor in module.state_dict().items()}
        if self.kind == CLIP:
            return {self.prefix + name: tensor for name, tensor in named.items()}
        return {self.prefix + name: tensor for name, tensor in _as_open_clip(named, self.layers).items()}


def _as_open_clip(named: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """OpenCLIP's `TextTransformer`, written out: one projection in for query, key and value."""
    found = {
        "positional_embedding": named["embeddings.position_embedding.weight"],
        "token_embedding.weight": named["embeddings.token_embedding.weight"],
        "logit_scale": torch.tensor(4.6),
        "text_projection": named.get("text_projection.weight", torch.eye(8)).T,
    }
    for leaf in ("weight", "bias"):
        found[f"ln_final.{leaf}"] = named[f"final_layer_norm.{leaf}"]
        for layer in range(layers):
            ours, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
            found[f"{theirs}ln_1.{leaf}"] = named[f"{ours}layer_norm1.{leaf}"]
            found[f"{theirs}ln_2.{leaf}"] = named[f"{ours}layer_norm2.{leaf}"]
            found[f"{theirs}mlp.c_fc.{leaf}"] = named[f"{ours}mlp.fc1.{leaf}"]
            found[f"{theirs}mlp.c_proj.{leaf}"] = named[f"{ours}mlp.fc2.{leaf}"]
            found[f"{theirs}attn.out_proj.{leaf}"] = named[f"{ours}self_attn.out_proj.{leaf}"]
            found[f"{theirs}attn.in_proj_{leaf}"] = torch.cat(
                [named[f"{ours}self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            )
    return found


@dataclass(frozen=True)
class Tiny:
    """Widths and depths of a made-up checkpoint of a family."""

    family: str
    texts: tuple[Text, ...]
    context: int  # width of what the denoiser reads
    widths: tuple[int, ...] = (8, 16)
    attends: tuple[bool, ...] = (True, False)
    depths: tuple[int, ...] = (1, 1)
    heads: tuple[int, ...] = (1, 2)
    layers: int = 2
    linear: bool = True
    channels: int = 4
    numbers: int = 0  # that the denoiser is told
    metadata: dict[str, str] = field(default_factory=dict)

    def modules(self, seed: int = 0) -> tuple[Any, Any, tuple[Any, ...]]:
        torch.manual_seed(seed)
        kinds = [CROSS if attends else PLAIN for attends in self.attends]
        sized: dict[str, Any] = {}
        if self.numbers:
            inputs = POOLED + self.numbers * WAVES
            sized = {"addition_embed_type": "text_time", "addition_time_embed_dim": WAVES,
                     "projection_class_embeddings_input_dim": inputs}  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=self.channels, block_out_channels=self.widths,
            layers_per_block=self.layers, down_block_types=tuple(kind[0] for kind in kinds),
            up_block_types=tuple(kind[1] for kind in reversed(kinds)), norm_num_groups=4,
            transformer_layers_per_block=self.depths, cross_attention_dim=self.context,
            attention_head_dim=self.heads, use_linear_projection=self.linear, **sized,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(4, 4, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4,
            scaling_factor=0.13025 if self.numbers else 0.18215,
        )  # fmt: skip
        texts = tuple(text.module() for text in self.texts)
        for module in (unet, vae, *texts):
            jitter(module)
        return unet.eval(), vae.eval(), tuple(text.eval() for text in texts)

    def weights(self, seed: int = 0) -> dict[str, Tensor]:
        unet, vae, texts = self.modules(seed)
        found = keys.to_ldm(unet.state_dict(), vae.state_dict(), {}, (self.layers,) * len(self.widths))
        for text, module in zip(self.texts, texts, strict=True):
            found |= text.weights(module)
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def all_metadata(self) -> dict[str, str]:
        heads = {"unet_heads": "2"} if self.family == "sd1" else {"unet_head_width": "8"}
        numbers = {
            **heads, "unet_norm_groups": "4", "vae_norm_groups": "4", "text_heads": "2", "text_heads_2": "2",
            "native_size": "64", "prediction": "epsilon", "family": self.family,
        }  # fmt: skip
        return {**{f"cloudbrush.{name}": value for name, value in numbers.items()}, **self.metadata}


SD1 = Tiny("sd1", (Text("cond_stage_model.transformer.text_model.", CLIP, 8),), 8, heads=(2, 2), linear=False)
SD2 = Tiny("sd2", (Text("cond_stage_model.model.", OPEN_CLIP, 8),), 8)
SDXL = Tiny(
    "sdxl",
    (
        Text("conditioner.embedders.0.transformer.text_model.", CLIP, 8),
        Text("conditioner.embedders.1.model.", OPEN_CLIP, 16, layers=4, pooled=True),
    ),
    24,
    widths=(8, 16, 16),
    attends=(False, True, True),
    depths=(1, 1, 2),
    heads=(1, 2, 2),
    numbers=6,
)
REFINER = Tiny(
    "sdxl-refiner",
    (Text("conditioner.embedders.0.model.", OPEN_CLIP, 16, pooled=True),),
    16,
    widths=(8, 16, 16),
    attends=(False, True, False),
    depths=(2, 2, 2),
    heads=(1, 2, 2),
    numbers=5,
)
FAMILIES = {tiny.family: tiny for tiny in (SD1, SD2, SDXL, REFINER)}


@cache
def weights_of(tiny_family: str) -> dict[str, Tensor]:
    """The plain checkpoint of a family, made once."""
    return FAMILIES[tiny_family].weights()
