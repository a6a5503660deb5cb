"""Widths and depths of a single-file (LDM) checkpoint, read off the shapes of its tensors.

What shapes cannot tell (attention heads, norm groups) comes from the file's metadata or the family's rule.
Results are the keyword arguments of the diffusers and transformers configurations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header
from cloudbrush.engine.models import shapes
from cloudbrush.engine.models.families import Family
from cloudbrush.engine.models.text_layout import read_text

UNET = "model.diffusion_model."
VAE = "first_stage_model."

HEAD_WIDTH = 64  # of the denoiser's attention, but in SD1
NORM_GROUPS = 32
_SIZE_EMBEDDING = f"{UNET}label_emb.0.0.weight"


@dataclass(frozen=True)
class Layout:
    """How to build the modules of a checkpoint."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[dict[str, Any], ...]  # in the order of the family

    @property
    def unet_layers(self) -> tuple[int, ...]:
        """Residual blocks per level of the denoiser's descending half."""
        return tuple(self.unet["layers_per_block"])

    @property
    def vae_levels(self) -> int:
        """Resolutions of the autoencoder."""
        return len(self.vae["block_out_channels"])


def read_layout(header: Header, family: Family) -> Layout:
    """The layout of a family's checkpoint; raises `ModelFileError` where shapes contradict the family."""
    texts = tuple(read_text(header, part) for part in family.texts)
    unet = _unet(header, family)
    for part, text in zip(family.texts, texts, strict=True):
        if part.pooled:
            unet |= _size_embedding(header, family, text["projection_dim"])
    return Layout(unet, read_vae(header), texts)


@dataclass
class _Level:
    """One resolution of the denoiser's descending half."""

    width: int = 0
    layers: int = 0
    attentions: int = 0
    depth: int = 0  # transformer blocks per attention


def _unet(header: Header, family: Family) -> dict[str, Any]:
    first = shapes.plane(header, f"{UNET}input_blocks.0.0.weight")
    levels = list(_unet_levels(header))
    middle = f"{UNET}middle_block.1."
    if not levels or f"{middle}norm.weight" not in header:
        raise ModelFileError(f"the denoiser has no levels, or no attention in its middle; {family.title} has")
    depths = [level.depth or 1 for level in levels]
    middle_depth = shapes.count(header, f"{middle}transformer_blocks.{{}}.norm1.weight")
    if levels[-1].attentions and depths[-1] != middle_depth:
        raise ModelFileError(f"the denoiser's middle is not as deep as its last level; {family.title}'s is")
    attends = [level.attentions > 0 for level in levels]
    widths = tuple(level.width for level in levels)
    groups = shapes.metadata_number(header, "unet_norm_groups", NORM_GROUPS)
    shapes.check_divides("norm groups", groups, *widths, first[0])
    return {
        "in_channels": first[1],
        "out_channels": shapes.plane(header, f"{UNET}out.2.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": tuple(level.layers for level in levels),
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        "transformer_layers_per_block": (*depths[:-1], middle_depth),
        "cross_attention_dim": shapes.plane(header, f"{middle}transformer_blocks.0.attn2.to_k.weight")[1],
        "use_linear_projection": len(header.shape(f"{middle}proj_in.weight")) == 2,
        "attention_head_dim": _heads(header, family, levels),  # diffusers' name for the number of heads
        "norm_num_groups": groups,
    }


def _heads(header: Header, family: Family, levels: list[_Level]) -> tuple[int, ...]:
    """Attention heads per level: as many in each, or as wide in each."""
    attending = [level.width for level in levels if level.attentions or level is levels[-1]]  # the middle too
    if family.heads or "cloudbrush.unet_heads" in header.metadata:
        heads = shapes.metadata_number(header, "unet_heads", family.heads or 1)
        shapes.check_divides("heads", heads, *attending)
        return (heads,) * len(levels)
    width = shapes.metadata_number(header, "unet_head_width", HEAD_WIDTH)
    shapes.check_divides("channels of a head", width, *attending)
    return tuple(max(1, level.width // width) for level in levels)


def _size_embedding(header: Header, family: Family, pooled: int) -> dict[str, Any]:
    """SDXL's: what the denoiser is told beside the tokens, the pooled text and some numbers as waves."""
    inputs = shapes.plane(header, _SIZE_EMBEDDING)[1]
    numbers = len(family.numbers((0, 0), negative=False))
    waves, rest = divmod(inputs - pooled, numbers)
    if waves <= 0 or waves % 2 or rest:
        raise ModelFileError(
            f"{inputs} inputs of the size embedding are not {pooled} and {numbers} numbers' waves;"
            f" {family.title}'s are"
        )
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": waves,
        "projection_class_embeddings_input_dim": inputs,
    }


def _unet_levels(header: Header) -> Iterator[_Level]:
    level = _Level()
    index = 1
    while True:
        block = f"{UNET}input_blocks.{index}."
        if f"{block}0.in_layers.2.weight" in header:
            level.width = shapes.plane(header, f"{block}0.in_layers.2.weight")[0]
            level.layers += 1
            if f"{block}1.norm.weight" in header:
                level.attentions += 1
                level.depth = shapes.count(header, f"{block}1.transformer_blocks.{{}}.norm1.weight")
        else:
            if level.attentions not in (0, level.layers):
                raise ModelFileError("the denoiser attends in part of a level only, which no family's does")
            if level.layers:
                yield level
            if f"{block}0.op.weight" not in header:
                return
            level = _Level()
        index += 1


def read_vae(header: Header) -> dict[str, Any]:
    """The autoencoder's configuration; raises `ModelFileError` where its shapes contradict each other."""
    levels = shapes.count(header, f"{VAE}encoder.down.{{}}.block.0.norm1.weight")
    widths = tuple(
        shapes.plane(header, f"{VAE}encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)
    )
    groups = shapes.metadata_number(header, "vae_norm_groups", NORM_GROUPS)
    shapes.check_divides("norm groups of the VAE", groups, *widths)
    return {
        "in_channels": shapes.plane(header, f"{VAE}encoder.conv_in.weight")[1],
        "out_channels": shapes.plane(header, f"{VAE}decoder.conv_out.weight")[0],
        "latent_channels": shapes.plane(header, f"{VAE}decoder.conv_in.weight")[1],
        "block_out_channels": widths,
        "layers_per_block": shapes.count(header, f"{VAE}encoder.down.0.block.{{}}.norm1.weight"),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "mid_block_add_attention": f"{VAE}decoder.mid.attn_1.norm.weight" in header,
        "use_quant_conv": f"{VAE}quant_conv.weight" in header,
        "use_post_quant_conv": f"{VAE}post_quant_conv.weight" in header,
        "norm_num_groups": groups,
    }
