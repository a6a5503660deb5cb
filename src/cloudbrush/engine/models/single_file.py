"""SD1-layout single-file `.safetensors` checkpoints, of any width and depth, without network.

A wrong file is refused, and named for what it is, before any memory is taken for it.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header, ModelInfo, inspect
from cloudbrush.engine.models import keys, weights
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement, Skeleton
from cloudbrush.engine.models.layout import UNET, read_layout, text_prefix
from cloudbrush.engine.sigmas import ModelSigmas

# What real files hold beside the weights: averages for training, constants of the noise schedule, leftovers.
_TOLERATED = re.compile(
    r"model_ema\.|.*position_ids$|(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus\w*|posterior_\w+|logvar"
    r"|lvlb_weights|scale_factor)$|first_stage_model\.(loss|model_ema)\.|cond_stage_model\.(logit_scale|text_proj)"
    r"|cond_stage_model\.transformer\.(text_projection|logit_scale|vision_model|visual_projection)"
)
_FAMILIES = {"sd2": "a Stable Diffusion 2", "sdxl": "an SDXL", "sdxl-refiner": "an SDXL refiner"}
_KINDS = {AssetKind.LORA: "a LoRA", AssetKind.VAE: "a VAE", AssetKind.EMBEDDING: "an embedding"}


def load_single_file(path: Path, *, name: str, sha256: str, placement: Placement) -> Checkpoint:
    """The checkpoint in a file, on its device; raises `ModelFileError` when the file is not one."""
    header = weights.header_of(path)
    info = _checked_info(header)
    layout = read_layout(header)
    modules = Skeleton.build(layout)
    unet = keys.unet_names(modules.unet.state_dict(), layout.unet_layers)
    vae = keys.vae_names(modules.vae.state_dict(), layout.vae_levels)
    text = keys.text_names(modules.text_encoder.state_dict(), text_prefix(header))
    expected = (
        weights.expected_shapes(modules.unet, unet)
        | weights.expected_shapes(modules.vae, vae)
        | weights.expected_shapes(modules.text_encoder, text)
    )
    extra = [key for key in header.tensors if key not in expected and not _TOLERATED.match(key)]
    weights.check(header, expected, extra, "an SD1 checkpoint")
    weights.load(path, modules.unet, unet, placement.device, placement.denoiser_dtype)
    weights.load(path, modules.vae, vae, placement.device, torch.float32)
    weights.load(path, modules.text_encoder, text, placement.device, torch.float32)
    return modules.checkpoint(name, sha256, info, ModelSigmas.sd(), placement)


def _checked_info(header: Header) -> ModelInfo:
    info = inspect(header)
    if info.kind != AssetKind.CHECKPOINT:
        what = _KINDS.get(info.kind, f"a model of the kind {info.kind}")
        raise ModelFileError(f"this is {what}; a checkpoint was expected", field="checkpoint")
    if info.family != "sd1":
        what = _FAMILIES.get(info.family or "", f"a {info.family}")
        raise ModelFileError(
            f"this is {what} checkpoint; one of the SD1 family was expected", field="checkpoint"
        )
    channels = header.shape(f"{UNET}input_blocks.0.0.weight")[1]
    if channels != 4:
        what = {9: "an inpainting", 8: "an InstructPix2Pix"}.get(channels, f"a {channels}-channel")
        raise ModelFileError(f"this is {what} checkpoint; a plain SD1 one was expected", field="checkpoint")
    return info
