"""Autoencoders from files of their own, in LDM's names, in place of the checkpoint's (specification 4.4)."""

from __future__ import annotations

import re

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models import keys, layout, weights
from cloudbrush.engine.models.checkpoint import check_colours
from cloudbrush.engine.models.layout import VAE
from cloudbrush.engine.networks import files

_DROPPED = re.compile(r"(?:first_stage_model\.)?(?:loss|model_ema\.)")
_DIFFUSERS = re.compile(r"(?:encoder|decoder)\.(?:down|up)_blocks\.")


def load_vae(file: ModelFile, device: torch.device) -> AutoencoderKL:
    """The autoencoder in a file, in float32, with its configuration read off shapes.

    Raises `ModelFileError`, before memory is taken, for anything but a whole autoencoder.
    """
    header = weights.header_of(file.path)
    stored = {_prefixed(key): key for key in header.tensors if not _DROPPED.match(key)}
    if any(_DIFFUSERS.match(key) for key in header.tensors):
        raise ModelFileError(
            "this VAE has diffusers' names; one with LDM's was expected", field="vae", hint=_HINT
        )
    if f"{VAE}decoder.conv_in.weight" not in stored or _other(stored):
        raise files.wrong_kind(header, "a VAE", field="vae")
    as_ldm = Header({name: header.tensors[key] for name, key in stored.items()}, header.metadata, header.size)
    config = layout.read_vae(as_ldm)  # the same reading as of a checkpoint's
    with torch.device("meta"):
        vae = AutoencoderKL(**config).eval()
    check_colours(vae)
    names = keys.vae_names(vae.state_dict(), len(config["block_out_channels"]))
    expected = weights.expected_shapes(vae, names)
    weights.check(as_ldm, expected, [name for name in stored if name not in expected], "a VAE")
    own_names = {own: stored[name] for own, name in names.items()}
    weights.load(file.path, vae, own_names, device, torch.float32)
    return vae.to(memory_format=torch.channels_last).requires_grad_(False)


_HINT = "Take the file that was published for single-file checkpoints."


def _prefixed(key: str) -> str:
    return key if key.startswith(VAE) else VAE + key


def _other(stored: dict[str, str]) -> bool:
    """Whether there is more than an autoencoder, such as a whole checkpoint around it."""
    return any(name.startswith((f"{VAE}model.", f"{VAE}cond_stage_model.")) for name in stored)
