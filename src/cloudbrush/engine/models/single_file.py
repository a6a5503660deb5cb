"""Single-file (LDM) `.safetensors` checkpoints of every family, of any width and depth, without network.

A wrong file is refused, and named for what it is, before any memory is taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import SD2_BASE_SIZE, Header, ModelInfo, inspect, native_size
from cloudbrush.engine.models import keys, weights
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement, Skeleton
from cloudbrush.engine.models.families import FAMILIES, Family
from cloudbrush.engine.models.layout import Layout, read_layout
from cloudbrush.engine.models.probe import predicts_v
from cloudbrush.engine.models.text_layout import text_prefix
from cloudbrush.engine.models.weights import Names

# What real files hold beside the weights: averages for training, constants of the noise schedule, leftovers.
_TOLERATED = re.compile(
    r"model_ema\.|embedding_manager\.|.*position_ids$|(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus\w*"
    r"|posterior_\w+|logvar|lvlb_weights|scale_factor|denoiser\.sigmas|v_pred|ztsnr)$|first_stage_model\.(loss|model_ema)\."
    r"|(cond_stage_model|conditioner\.embedders\.\d)\.((model|transformer)\.)?"
    r"(logit_scale|text_proj\w*|attn_mask|vision_model|visual)"
)


def load_single_file(path: Path, *, name: str, sha256: str, placement: Placement) -> Checkpoint:
    """The checkpoint in a file, on its device; raises `ModelFileError` when the file is not one."""
    header = weights.header_of(path)
    info, family = _checked_info(header)
    layout = _layout(header, family)
    modules = Skeleton.build(layout, family)
    modules.check()
    unet = keys.unet_names(modules.unet.state_dict(), layout.unet_layers)
    vae = keys.vae_names(modules.vae.state_dict(), layout.vae_levels)
    places: list[tuple[nn.Module, Names, torch.dtype]] = [
        (modules.unet, unet, placement.denoiser_dtype),
        (modules.vae, vae, torch.float32),
        *((module, names, torch.float32) for module, names in _texts(header, modules)),
    ]
    expected: dict[str, weights.Shape] = {}
    for module, names, _ in places:
        expected |= weights.expected_shapes(module, names)
    weights.check(header, expected, _extra(header, expected, modules), f"a checkpoint of {family.title}")
    for module, names, dtype in places:
        weights.load(path, module, names, placement.device, dtype)
    return _tried(modules.checkpoint(name, sha256, info, placement, family.latent_scale), header)


def _checked_info(header: Header) -> tuple[ModelInfo, Family]:
    info = inspect(header)
    if info.kind != AssetKind.CHECKPOINT:
        raise ModelFileError(f"this is {info.kind.phrase}; a checkpoint was expected", field="checkpoint")
    family = FAMILIES.get(info.family or "")
    if family is None:
        raise ModelFileError(
            f"this is a checkpoint of {(info.family or 'no family')[:40]!r}; one of"
            f" {', '.join(FAMILIES)} was expected",
            field="checkpoint",
        )
    return info, family


def _layout(header: Header, family: Family) -> Layout:
    try:
        return read_layout(header, family)
    except ModelFileError as error:
        detail = f"this is a checkpoint of {family.title}, but {error.detail}"
        raise ModelFileError(detail, field="checkpoint", hint=error.hint) from error


def _texts(header: Header, modules: Skeleton) -> Iterator[tuple[nn.Module, Names]]:
    for text in modules.text:
        prefix = text_prefix(header, text.part)
        names = keys.text_names(text.module.state_dict(), prefix, open_clip=text.part.open_clip)
        yield text.module, names


def _extra(header: Header, expected: dict[str, weights.Shape], modules: Skeleton) -> list[str]:
    """Tensors that no known checkpoint has: neither weights nor leftovers nor layers that nobody reads."""
    unread = tuple(
        f"{text_prefix(header, text.part)}transformer.resblocks.{text.core.config.num_hidden_layers + more}."
        for text in modules.text
        for more in range(text.part.dropped)
    )
    return [
        key
        for key in header.tensors
        if key not in expected and not _TOLERATED.match(key) and not key.startswith(unread)
    ]


def _tried(checkpoint: Checkpoint, header: Header) -> Checkpoint:
    """With what its denoiser predicts found out, where the file does not tell."""
    info = checkpoint.info
    if info.prediction is not None:
        return checkpoint
    if predicts_v(checkpoint.unet):
        return replace(checkpoint, info=replace(info, prediction="v"))
    size = native_size(header.metadata, SD2_BASE_SIZE)
    return replace(checkpoint, info=replace(info, prediction="epsilon", native_size=size))
