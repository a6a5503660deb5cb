"""Checkpoints as diffusers folders: what their configurations say they are. Neither torch nor weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import NATIVE_SIZES, ModelInfo

MAX_CONFIG = 2**20  # bytes
MAX_LAYERS = 100  # of anything there can be several of; modules are built before weights are looked at
MAX_LEVELS = 16  # numbers in a list
MAX_DEPTH = 3  # of lists in lists
MAX_NUMBER = 10**6
PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
)
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}


def read_folder(path: Path) -> ModelInfo:
    """What the checkpoint in a folder is; raises `ModelFileError` when it is none that can be used."""
    pipeline = read_config(path / "model_index.json").get("_class_name")
    if pipeline not in PIPELINES:
        raise ModelFileError(
            f"this is a {str(pipeline)[:60]}; a StableDiffusionPipeline or StableDiffusionXLPipeline was"
            " expected",
            field="checkpoint",
        )
    unet = read_config(path / "unet" / "config.json")
    family = _family(path, pipeline)
    scheduler = path / "scheduler" / "scheduler_config.json"
    noise = read_config(scheduler) if scheduler.exists() else {}
    kind = noise.get("prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise ModelFileError(f"the model predicts {kind!r:.40}; 'epsilon' and 'v_prediction' are known")
    return ModelInfo(
        AssetKind.CHECKPOINT,
        family,
        _PREDICTIONS[kind],
        _native_size(path, unet, NATIVE_SIZES[family]),
        noise.get("rescale_betas_zero_snr") is True,
    )


def _family(path: Path, pipeline: str) -> str:
    """By the text encoders that are there, and what the only one of SD1 and SD2 counts with."""
    if "XL" in pipeline:
        return "sdxl" if (path / "text_encoder").is_dir() else "sdxl-refiner"
    activation = read_config(path / "text_encoder" / "config.json").get("hidden_act", "quick_gelu")
    return "sd2" if activation == "gelu" else "sd1"


def _native_size(path: Path, unet: dict[str, Any], usual: int) -> int:
    latents = unet.get("sample_size")
    widths = read_config(path / "vae" / "config.json").get("block_out_channels")
    if type(latents) is not int or not isinstance(widths, list) or not 1 <= len(widths) <= 8:
        return usual
    return int(max(64, min(2048, latents * 2 ** (len(widths) - 1))))


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a folder; raises `ModelFileError` when it is missing or something else."""
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(MAX_CONFIG))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path.parent.name}/{path.name} is missing from the folder") from error
    except OSError as error:
        raise ModelFileError(f"{path.parent.name}/{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path.parent.name}/{path.name} is no JSON") from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{path.parent.name}/{path.name} is not a JSON object")
    for name, value in config.items():
        if _largest(value) > (MAX_LAYERS if "layers" in name else MAX_NUMBER):
            raise ModelFileError(f"{path.parent.name}/{path.name} gives {value!r:.40} for {name[:40]}")
    return config


def _largest(value: Any, depth: int = 0) -> float:
    """The largest number in it, whatever its sign; infinity for not-a-number and for lists without bounds."""
    if isinstance(value, list):
        if len(value) > MAX_LEVELS or depth > MAX_DEPTH:
            return math.inf
        return max((_largest(part, depth + 1) for part in value), default=0)
    if isinstance(value, int | float):
        return abs(value) if math.isfinite(value) else math.inf
    return 0
