"""Names of diffusers' modules in the single-file layout of Stable Diffusion 1 (CompVis LDM), both ways."""

from __future__ import annotations

import re

import torch

Weights = dict[str, torch.Tensor]
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_key(key: str, layers: int, attended_ups: set[int]) -> str:
    """LDM name of a UNet key; `attended_ups` are the up blocks that have attention."""
    name, _, leaf = key.rpartition(".")
    if name in _ENDS:
        return f"model.diffusion_model.{_ENDS[name]}.{leaf}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, index, rest = match.groups()
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(index)}"
    else:
        side, block, kind, index, rest = re.fullmatch(
            r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
        ).groups()
        first = int(block) * (layers + 1)
        if kind == "downsamplers":
            place, rest = f"input_blocks.{first + layers + 1}.0", "op"
        elif kind == "upsamplers":
            place = f"output_blocks.{first + layers}.{2 if int(block) in attended_ups else 1}"
        else:
            number = first + int(index) + (1 if side == "down" else 0)
            place = f"{'input' if side == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}"
    if kind == "resnets":
        rest = _RESNET[rest]
    return f"model.diffusion_model.{place}.{rest}.{leaf}"


def vae_key(key: str, levels: int) -> str:
    """LDM name of an autoencoder key; `levels` are its resolutions."""
    name, _, leaf = key.rpartition(".")
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name).replace(".resnets.", ".block.")
    name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    if match := re.fullmatch(r"(.+)\.mid_block\.attentions\.0\.(.+)", name):
        name = f"{match[1]}.mid.attn_1.{_ATTENTION[match[2]]}"
    return f"first_stage_model.{name}.{leaf}"


def text_key(key: str) -> str:
    """LDM name of a text-encoder key, whether or not transformers prefixes it."""
    return f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"


def vae_names(vae: Weights) -> dict[str, str]:
    """What LDM calls the keys of an autoencoder."""
    levels = 1 + max(int(m[1]) for k in vae if (m := re.match(r"encoder\.down_blocks\.(\d+)", k)))
    return {k: vae_key(k, levels) for k in vae}


def names(unet: Weights, vae: Weights, text: Weights) -> dict[str, dict[str, str]]:
    """For each part, its keys and what LDM calls them."""
    layers = 1 + max(int(m[1]) for k in unet if (m := re.match(r"down_blocks\.0\.resnets\.(\d+)", k)))
    attended = {int(m[1]) for k in unet if (m := re.match(r"up_blocks\.(\d+)\.attentions", k))}
    return {
        "unet": {k: unet_key(k, layers, attended) for k in unet},
        "vae": vae_names(vae),
        "text": {k: text_key(k) for k in text},
    }


def to_ldm(unet: Weights, vae: Weights, text: Weights) -> Weights:
    """One state dict."""
    parts, found = {"unet": unet, "vae": vae, "text": text}, {}
    for part, table in names(unet, vae, text).items():
        for key, name in table.items():
            found[name] = ldm_shape(name, parts[part][key])
    return found


def ldm_shape(name: str, weight: torch.Tensor) -> torch.Tensor:
    """The autoencoder's attention is made of 1x1 convolutions in LDM."""
    return weight[:, :, None, None] if ".attn_1." in name and weight.ndim == 2 else weight


def from_ldm(
    weights: Weights, unet: Weights, vae: Weights, text: Weights
) -> tuple[Weights, Weights, Weights]:
    """State dicts shaped like the given ones, filled from an LDM state dict."""
    parts = {"unet": unet, "vae": vae, "text": text}
    for part, table in names(unet, vae, text).items():
        parts[part] = {k: weights[name].reshape(parts[part][k].shape).float() for k, name in table.items()}
    return parts["unet"], parts["vae"], parts["text"]
