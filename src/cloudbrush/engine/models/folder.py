"""Checkpoints as diffusers folders: a `model_index.json` and a folder per module, safetensors only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import ModelInfo
from cloudbrush.engine.models import weights
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement, Skeleton
from cloudbrush.engine.sigmas import ModelSigmas

_PIPELINE = "StableDiffusionPipeline"
_MAX_CONFIG = 2**20  # bytes
# How older files spell the autoencoder's attention.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_folder(path: Path, *, name: str, sha256: str, placement: Placement) -> Checkpoint:
    """The checkpoint in a diffusers folder; raises `ModelFileError` when it is not an SD1 one."""
    pipeline = _config(path / "model_index.json").get("_class_name")
    if pipeline != _PIPELINE:
        raise ModelFileError(f"this is a {pipeline}; a {_PIPELINE} was expected", field="checkpoint")
    with torch.device("meta"):
        modules = Skeleton(
            UNet2DConditionModel.from_config(_config(path / "unet" / "config.json")).eval(),
            AutoencoderKL.from_config(_config(path / "vae" / "config.json")).eval(),
            CLIPTextModel(CLIPTextConfig(**_config(path / "text_encoder" / "config.json"))).eval(),
        )
    if modules.unet.config.in_channels != 4:
        raise ModelFileError("this is an inpainting or editing checkpoint; a plain SD1 one was expected")
    _load(path / "unet", modules.unet, placement.device, placement.denoiser_dtype)
    _load(path / "vae", modules.vae, placement.device, torch.float32)
    _load(path / "text_encoder", modules.text_encoder, placement.device, torch.float32)
    info = ModelInfo(AssetKind.CHECKPOINT, "sd1", _prediction(path))
    scale = float(modules.vae.config.scaling_factor)
    return modules.checkpoint(name, sha256, info, ModelSigmas.sd(), placement, latent_scale=scale)


def _load(folder: Path, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    if not file.exists():
        file = folder / "model.safetensors"
    header = weights.header_of(file)
    own_names = {
        _own_name(theirs): theirs for theirs in header.tensors if not theirs.endswith("position_ids")
    }
    wanted = module.state_dict()
    names = {own: own_names.get(own, own) for own in wanted}
    extra = [theirs for own, theirs in own_names.items() if own not in wanted]
    weights.check(header, weights.expected_shapes(module, names), extra, f"the folder's {folder.name}")
    weights.load(file, module, names, device, dtype)


def _own_name(name: str) -> str:
    old = re.fullmatch(r"(.*mid_block\.attentions\.0\.)(query|key|value|proj_attn)(\.\w+)", name)
    if old:
        return f"{old[1]}{_OLD_ATTENTION[old[2]]}{old[3]}"
    return name.removeprefix("text_model.")


def _prediction(path: Path) -> str:
    scheduler = path / "scheduler" / "scheduler_config.json"
    kind = _config(scheduler).get("prediction_type", "epsilon") if scheduler.exists() else "epsilon"
    if kind not in ("epsilon", "v_prediction"):
        raise ModelFileError(f"the model predicts {kind!r:.40}; 'epsilon' and 'v_prediction' are known")
    return "v" if kind == "v_prediction" else "epsilon"


def _config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(_MAX_CONFIG))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path.parent.name}/{path.name} is missing from the folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{path.parent.name}/{path.name} is not a JSON object")
    return config
