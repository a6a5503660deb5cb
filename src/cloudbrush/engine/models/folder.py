"""Checkpoints as diffusers folders: a `model_index.json` and a folder per module, safetensors only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_folder import read_config, read_folder
from cloudbrush.engine.models import weights
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement, Skeleton
from cloudbrush.engine.models.families import FAMILIES, Family
from cloudbrush.engine.models.text_encoder import TextEncoder

_FILES = tuple(
    f"{stem}{precision}.safetensors"
    for precision in ("", ".fp16")
    for stem in ("diffusion_pytorch_model", "model")
)
# How older files spell the autoencoder's attention.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_TEXT_MODEL = "text_model."  # transformers' modules have or lack it, by class and version


def load_folder(path: Path, *, name: str, sha256: str, placement: Placement) -> Checkpoint:
    """The checkpoint in a diffusers folder; raises `ModelFileError` when it is none that can be used."""
    info = read_folder(path)
    modules = _modules(path, FAMILIES[info.family or ""])
    modules.check()
    places: list[tuple[Path, nn.Module, torch.dtype]] = [
        (path / "unet", modules.unet, placement.denoiser_dtype),
        (path / "vae", modules.vae, torch.float32),
        *((path / text.part.folder, text.module, torch.float32) for text in modules.text),
    ]
    checked = [(_checked(folder, module), module, dtype) for folder, module, dtype in places]
    for (file, names), module, dtype in checked:
        weights.load(file, module, names, placement.device, dtype)
    return modules.checkpoint(name, sha256, info, placement, float(modules.vae.config.scaling_factor))


def _modules(path: Path, family: Family) -> Skeleton:
    """The modules that the folder's configurations describe; raises `ModelFileError` for impossible ones."""
    unet, vae, *texts = (
        read_config(path / folder / "config.json")
        for folder in ("unet", "vae", *(part.folder for part in family.texts))
    )
    try:
        with torch.device("meta"):
            return Skeleton(
                UNet2DConditionModel.from_config(unet).eval(),
                AutoencoderKL.from_config(vae).eval(),
                tuple(
                    TextEncoder.build(config, part) for config, part in zip(texts, family.texts, strict=True)
                ),
            )
    except Exception as error:  # whatever the constructors make of numbers that do not go together
        raise ModelFileError(
            f"the folder's configurations describe no checkpoint of {family.title} that can be built",
            field="checkpoint",
        ) from error


def _checked(folder: Path, module: nn.Module) -> tuple[Path, weights.Names]:
    """The file of a module's weights, and where in it they are; raises `ModelFileError`."""
    file = next((folder / name for name in _FILES if (folder / name).exists()), None)
    if file is None:
        hint = "Only safetensors are loaded, and only whole: the folder may hold a .bin, or a file in parts."
        raise ModelFileError(f"the folder's {folder.name} has no {_FILES[0]}", field="checkpoint", hint=hint)
    header = weights.header_of(file)
    wanted = module.state_dict()
    own_names = {
        _own_name(theirs, wanted): theirs for theirs in header.tensors if not theirs.endswith("position_ids")
    }
    names = {own: own_names.get(own, own) for own in wanted}
    extra = [theirs for own, theirs in own_names.items() if own not in wanted]
    weights.check(header, weights.expected_shapes(module, names), extra, f"the folder's {folder.name}")
    return file, names


def _own_name(name: str, wanted: Iterable[str]) -> str:
    old = re.fullmatch(r"(.*mid_block\.attentions\.0\.)(query|key|value|proj_attn)(\.\w+)", name)
    if old:
        return f"{old[1]}{_OLD_ATTENTION[old[2]]}{old[3]}"
    bare = name.removeprefix(_TEXT_MODEL)
    return next((own for own in (name, bare, _TEXT_MODEL + bare) if own in wanted), bare)
