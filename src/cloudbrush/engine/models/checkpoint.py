"""A checkpoint in memory: denoiser, autoencoder, text encoder, and what its file says about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from cloudbrush.domain.model_file import ModelInfo
from cloudbrush.engine.models.layout import Layout
from cloudbrush.engine.sigmas import ModelSigmas

LATENT_SCALE = 0.18215  # SD1: latents the denoiser sees per latents the autoencoder gives


@dataclass(frozen=True)
class Placement:
    """Where a checkpoint's modules live and in which precision they count."""

    device: torch.device
    denoiser_dtype: torch.dtype = torch.float32

    @classmethod
    def best(cls, device: str | None = None) -> Placement:
        """The given device, or the fastest one this machine has; half precision only where it is fast."""
        name = device or ("cuda" if torch.cuda.is_available() else _without_cuda())
        place = torch.device(name)
        return cls(place, torch.float16 if place.type == "cuda" else torch.float32)


def _without_cuda() -> str:
    return "mps" if torch.backends.mps.is_available() else "cpu"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The modules of one checkpoint, ready to run; autoencoder and text encoder always count in float32."""

    name: str
    sha256: str
    info: ModelInfo
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    sigmas: ModelSigmas
    placement: Placement
    latent_scale: float = LATENT_SCALE

    @property
    def latent_channels(self) -> int:
        """Channels of the latents; their sides are 1/`downscale` of the image's."""
        return int(self.vae.config.latent_channels)

    @property
    def downscale(self) -> int:
        """Pixels per latent along a side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


@dataclass(frozen=True)
class Skeleton:
    """The modules of a layout without memory for their weights (on torch's meta device)."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel

    @classmethod
    def build(cls, layout: Layout) -> Skeleton:
        """Modules that know their weights' names and shapes; nothing is allocated or drawn."""
        with torch.device("meta"):
            unet = UNet2DConditionModel(**layout.unet)
            vae = AutoencoderKL(**layout.vae)
            text_encoder = CLIPTextModel(CLIPTextConfig(**layout.text_encoder))
        return cls(unet.eval(), vae.eval(), text_encoder.eval())

    def checkpoint(
        self,
        name: str,
        sha256: str,
        info: ModelInfo,
        sigmas: ModelSigmas,
        placement: Placement,
        latent_scale: float = LATENT_SCALE,
    ) -> Checkpoint:
        """The checkpoint these modules are once they have their weights."""
        positions = self.text_encoder.config.max_position_embeddings
        self.text_encoder.embeddings.position_ids = torch.arange(positions, device=placement.device)[None]
        for module in (self.unet, self.vae):
            module.to(memory_format=torch.channels_last)  # faster convolutions on CPUs and GPUs alike
        for module in (self.unet, self.vae, self.text_encoder):
            module.requires_grad_(False)
        return Checkpoint(
            name, sha256, info, self.unet, self.vae, self.text_encoder, sigmas, placement, latent_scale
        )
