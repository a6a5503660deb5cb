"""Widths and depths of an SD1-layout checkpoint, read off the shapes of its tensors.

What shapes cannot tell (attention heads, norm groups) comes from the file's metadata or the family's rule.
Results are the keyword arguments of the diffusers and transformers configurations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudbrush.domain import tokens
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."
TEXT_OLD = "cond_stage_model.transformer."  # as written before transformers 4.31

UNET_HEADS = 8
NORM_GROUPS = 32
TEXT_HEAD_WIDTH = 64


@dataclass(frozen=True)
class Layout:
    """How to build the three modules of a checkpoint."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]

    @property
    def unet_layers(self) -> tuple[int, ...]:
        """Residual blocks per level of the denoiser's descending half."""
        return tuple(self.unet["layers_per_block"])

    @property
    def vae_levels(self) -> int:
        """Resolutions of the autoencoder."""
        return len(self.vae["block_out_channels"])


def read_layout(header: Header) -> Layout:
    """The layout of an SD1 checkpoint; raises `ModelFileError` where its shapes contradict that family."""
    return Layout(_unet(header), read_vae(header), _text_encoder(header))


@dataclass
class _Level:
    """One resolution of the denoiser's descending half."""

    width: int = 0
    layers: int = 0
    attentions: int = 0
    depth: int = 0  # transformer blocks per attention


def _unet(header: Header) -> dict[str, Any]:
    first = header.shape(f"{UNET}input_blocks.0.0.weight")
    levels = list(_unet_levels(header))
    middle = f"{UNET}middle_block.1."
    if not levels or f"{middle}norm.weight" not in header:
        raise ModelFileError("the denoiser has no levels, or no attention in its middle, as SD1's does")
    context = header.shape(f"{middle}transformer_blocks.0.attn2.to_k.weight")
    depths = [level.depth or 1 for level in levels]
    middle_depth = _count(header, f"{middle}transformer_blocks.{{}}.norm1.weight")
    if levels[-1].attentions and depths[-1] != middle_depth:
        raise ModelFileError("the denoiser's middle is deeper than its last level, which SD1's is not")
    attends = [level.attentions > 0 for level in levels]
    widths = tuple(level.width for level in levels)
    groups = _metadata_number(header, "unet_norm_groups", NORM_GROUPS)
    heads = _metadata_number(header, "unet_heads", UNET_HEADS)
    _check_divides("norm groups", groups, *widths, first[0])
    _check_divides("heads", heads, *(level.width for level in levels if level.attentions))
    return {
        "in_channels": first[1],
        "out_channels": header.shape(f"{UNET}out.2.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": tuple(level.layers for level in levels),
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        "transformer_layers_per_block": (*depths[:-1], middle_depth),
        "cross_attention_dim": context[-1],
        "use_linear_projection": len(header.shape(f"{middle}proj_in.weight")) == 2,
        "attention_head_dim": heads,  # diffusers' name for the number of heads
        "norm_num_groups": groups,
    }


def _unet_levels(header: Header) -> Iterator[_Level]:
    level = _Level()
    index = 1
    while True:
        block = f"{UNET}input_blocks.{index}."
        if f"{block}0.in_layers.2.weight" in header:
            level.width = header.shape(f"{block}0.in_layers.2.weight")[0]
            level.layers += 1
            if f"{block}1.norm.weight" in header:
                level.attentions += 1
                level.depth = _count(header, f"{block}1.transformer_blocks.{{}}.norm1.weight")
        else:
            if level.attentions not in (0, level.layers):
                raise ModelFileError("the denoiser attends in part of a level only, which SD1's does not")
            if level.layers:
                yield level
            if f"{block}0.op.weight" not in header:
                return
            level = _Level()
        index += 1


def read_vae(header: Header) -> dict[str, Any]:
    """The autoencoder's configuration; raises `ModelFileError` where its shapes contradict each other."""
    levels = _count(header, f"{VAE}encoder.down.{{}}.block.0.norm1.weight")
    widths = tuple(
        header.shape(f"{VAE}encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)
    )
    groups = _metadata_number(header, "vae_norm_groups", NORM_GROUPS)
    _check_divides("norm groups of the VAE", groups, *widths)
    return {
        "in_channels": header.shape(f"{VAE}encoder.conv_in.weight")[1],
        "out_channels": header.shape(f"{VAE}decoder.conv_out.weight")[0],
        "latent_channels": header.shape(f"{VAE}decoder.conv_in.weight")[1],
        "block_out_channels": widths,
        "layers_per_block": _count(header, f"{VAE}encoder.down.0.block.{{}}.norm1.weight"),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "mid_block_add_attention": f"{VAE}decoder.mid.attn_1.norm.weight" in header,
        "use_quant_conv": f"{VAE}quant_conv.weight" in header,
        "use_post_quant_conv": f"{VAE}post_quant_conv.weight" in header,
        "norm_num_groups": groups,
    }


def _text_encoder(header: Header) -> dict[str, Any]:
    prefix = text_prefix(header)
    vocabulary, width = header.shape(f"{prefix}embeddings.token_embedding.weight")
    positions = header.shape(f"{prefix}embeddings.position_embedding.weight")[0]
    if vocabulary <= tokens.END or positions < tokens.CHUNK + 2:
        raise ModelFileError(
            f"the text encoder knows {vocabulary} tokens and {positions} places, fewer than CLIP's"
        )
    heads = _metadata_number(header, "text_heads", max(1, width // TEXT_HEAD_WIDTH))
    _check_divides("heads of the text encoder", heads, width)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": header.shape(f"{prefix}encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(header, f"{prefix}encoder.layers.{{}}.layer_norm1.weight"),
        "num_attention_heads": heads,
        "max_position_embeddings": positions,
        "projection_dim": width,
        "hidden_act": "quick_gelu",
    }


def text_prefix(header: Header) -> str:
    """What the text encoder's names begin with in this file."""
    return TEXT if f"{TEXT}final_layer_norm.weight" in header else TEXT_OLD


def _count(header: Header, pattern: str) -> int:
    number = 0
    while pattern.format(number) in header:
        number += 1
    return number


def _metadata_number(header: Header, name: str, default: int) -> int:
    text = header.metadata.get(f"cloudbrush.{name}", str(default))
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ModelFileError(f"the file's metadata gives {text[:20]!r} for cloudbrush.{name}")
    return int(text)


def _check_divides(what: str, number: int, *widths: int) -> None:
    for width in widths:
        if width % number:
            raise ModelFileError(
                f"{number} {what} do not divide a width of {width}",
                hint="Files of unusual width say their own numbers in their metadata (cloudbrush.*).",
            )
