"""Names of weights: as single-file (LDM) checkpoints spell them, and as the diffusers modules do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from torch import Tensor

from cloudbrush.engine.models.families import FAMILIES
from cloudbrush.engine.models.layout import UNET, VAE
from cloudbrush.engine.models.weights import Source

_SD1_TEXT = FAMILIES["sd1"].texts[0].prefixes[0]
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_OPEN_CLIP_PARTS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_PROJECTION = "text_projection.weight"
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_UNET_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_VAE_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)")


def unet_names(names: Iterable[str], layers: Sequence[int]) -> dict[str, str]:
    """Diffusers name -> LDM name of the denoiser's weights.

    `layers`: residual blocks per level of its descending half, which has one block more per level going up.
    """
    names = list(names)
    attends_up = {int(match[1]) for name in names if (match := re.match(r"up_blocks\.(\d+)\.att", name))}
    starts = {
        "down": list(accumulate((count + 1 for count in layers), initial=1)),
        "up": list(accumulate((count + 1 for count in reversed(layers)), initial=0)),
    }
    return {name: UNET + _unet_name(name, starts, attends_up) for name in names}


def _unet_name(name: str, starts: Mapping[str, list[int]], attends_up: set[int]) -> str:
    if match := _MIDDLE.match(name):
        part, number, rest = match[1], int(match[2]), match[3]
        return (
            f"middle_block.1.{rest}" if part == "attentions" else f"middle_block.{2 * number}.{_resnet(rest)}"
        )
    match = _UNET_BLOCK.match(name)
    if match is None:
        stem, _, leaf = name.rpartition(".")
        return f"{_UNET_ENDS[stem]}.{leaf}"
    half, level, part, number, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    block, last = starts[half][level] + number, starts[half][level + 1] - 1
    if part == "downsamplers":
        return f"input_blocks.{last}.0.{rest.replace('conv', 'op', 1)}"
    if part == "upsamplers":
        return f"output_blocks.{last}.{2 if level in attends_up else 1}.{rest}"
    half = "input_blocks" if half == "down" else "output_blocks"
    return f"{half}.{block}.1.{rest}" if part == "attentions" else f"{half}.{block}.0.{_resnet(rest)}"


def _resnet(rest: str) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{_RESNET[stem]}.{leaf}"


def vae_names(names: Iterable[str], levels: int) -> dict[str, str]:
    """Diffusers name -> LDM name of the autoencoder's weights; `levels`: how many resolutions it has."""
    return {name: VAE + _vae_name(name, levels) for name in names}


def _vae_name(name: str, levels: int) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    if match := _MIDDLE.match(rest):
        part, index, inner = match[1], int(match[2]), match[3]
        if part == "resnets":
            return f"{half}.mid.block_{index + 1}.{inner}"
        stem, _, leaf = inner.rpartition(".")
        return f"{half}.mid.attn_1.{_VAE_ATTENTION[stem]}.{leaf}"
    if match := _VAE_BLOCK.match(rest):
        way, level, part, number, leaf = match[1], int(match[2]), match[3], match[4], match[5]
        level = level if way == "down" else levels - 1 - level  # LDM counts its way up from the top
        inner = f"block.{number}" if part == "resnets" else part.removesuffix("rs")
        return f"{half}.{way}.{level}.{inner}.{_shortcut(leaf)}"
    return f"{half}.{rest.replace('conv_norm_out', 'norm_out')}"


def _shortcut(leaf: str) -> str:
    return leaf.replace("conv_shortcut", "nin_shortcut")


def text_names(names: Iterable[str], prefix: str, *, open_clip: bool = False) -> dict[str, str | Source]:
    """Transformers name -> place of the text encoder's weights among those that begin with `prefix`."""
    if open_clip:
        return {name: _open_clip(name.removeprefix("text_model."), prefix) for name in names}
    return {name: prefix + name.removeprefix("text_model.") for name in names}


def _open_clip(name: str, prefix: str) -> str | Source:
    if name == _PROJECTION:
        return Source(f"{prefix}text_projection", transposed=True)
    match = _OPEN_CLIP_LAYER.fullmatch(name)
    if match is None:
        return prefix + _OPEN_CLIP_ENDS[name]
    layer, part, leaf = match.groups()
    block = f"{prefix}transformer.resblocks.{layer}."
    if stacked := re.fullmatch(r"self_attn\.([qkv])_proj", part):
        return Source(f"{block}attn.in_proj_{leaf}", third="qkv".index(stacked[1]))
    return f"{block}{_OPEN_CLIP_PARTS[part]}.{leaf}"


def to_ldm(
    unet: Mapping[str, Tensor],
    vae: Mapping[str, Tensor],
    text_encoder: Mapping[str, Tensor],
    layers: Sequence[int],
) -> dict[str, Tensor]:
    """The weights of the three modules under the names, and in the shapes, of a single-file SD1 checkpoint.

    `layers`: residual blocks per level of the denoiser's descending half.
    """
    levels = 1 + max(
        int(match[1]) for name in vae if (match := re.match(r"encoder\.down_blocks\.(\d+)", name))
    )
    weights = {new: unet[old] for old, new in unet_names(unet, layers).items()}
    weights |= {new: _as_convolution(new, vae[old]) for old, new in vae_names(vae, levels).items()}
    weights |= {_SD1_TEXT + name: tensor for name, tensor in text_encoder.items()}
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def _as_convolution(name: str, weight: Tensor) -> Tensor:
    """LDM writes the autoencoder's attention projections as 1x1 convolutions."""
    return weight[:, :, None, None] if ".attn_1." in name and weight.ndim == 2 else weight
