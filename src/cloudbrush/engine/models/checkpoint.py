"""A checkpoint in memory: denoiser, autoencoder, text encoders, and what its file says about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import ModelInfo
from cloudbrush.engine.models.families import FAMILIES, Family
from cloudbrush.engine.models.layout import Layout
from cloudbrush.engine.models.text_encoder import TextEncoder
from cloudbrush.engine.sigmas import DEFAULT, ZERO_TERMINAL_SNR, ModelSigmas

INPUTS = (4, 9)  # channels of the denoiser: latents; for inpainting also the mask and masked latents
COLOURS = 3


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
    """The modules of one checkpoint, ready to run; autoencoder and text encoders always count in float32."""

    name: str
    sha256: str
    info: ModelInfo
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: tuple[TextEncoder, ...]  # in the order in which the denoiser gets their vectors
    sigmas: ModelSigmas  # it was trained at
    placement: Placement
    latent_scale: float  # latents the denoiser sees per latents the autoencoder gives

    @property
    def family(self) -> Family:
        """What it is built like."""
        return FAMILIES[self.info.family or "sd1"]

    @property
    def latent_channels(self) -> int:
        """Channels of the latents; their sides are 1/`downscale` of the image's."""
        return int(self.vae.config.latent_channels)

    @property
    def input_channels(self) -> int:
        """Channels the denoiser takes in: the latents', or for inpainting also a mask and masked latents."""
        return int(self.unet.config.in_channels)

    @property
    def downscale(self) -> int:
        """Pixels per latent along a side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def sigmas_for(self, noise_schedule: str = DEFAULT, *, downcast: bool = False) -> ModelSigmas:
        """The noise levels under these options; `DEFAULT` is what the checkpoint was trained at."""
        trained = ZERO_TERMINAL_SNR if self.info.zero_terminal_snr else DEFAULT
        wanted = trained if noise_schedule == DEFAULT else noise_schedule
        return ModelSigmas.of(wanted, downcast=downcast, sdxl=self.family.sized)


@dataclass(frozen=True)
class Skeleton:
    """The modules of a checkpoint without memory for their weights (on torch's meta device)."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: tuple[TextEncoder, ...]

    @classmethod
    def build(cls, layout: Layout, family: Family) -> Skeleton:
        """Modules that know their weights' names and shapes; nothing is allocated or drawn."""
        with torch.device("meta"):
            unet = UNet2DConditionModel(**layout.unet)
            vae = AutoencoderKL(**layout.vae)
            text = tuple(
                TextEncoder.build(config, part)
                for config, part in zip(layout.texts, family.texts, strict=True)
            )
        return cls(unet.eval(), vae.eval(), text)

    def check(self) -> None:
        """Raise `ModelFileError` unless the modules understand each other."""
        denoiser, autoencoder = self.unet.config, self.vae.config
        channels = denoiser.in_channels
        if channels not in INPUTS:
            what = "an InstructPix2Pix" if channels == 8 else f"a {channels}-channel"
            raise _misfit(f"this is {what} checkpoint; a plain one or one for inpainting was expected")
        check_colours(self.vae)
        if denoiser.out_channels != autoencoder.latent_channels:
            raise _misfit(
                f"the VAE has latents of {autoencoder.latent_channels} channels;"
                f" the denoiser's {denoiser.out_channels} were expected"
            )
        width = sum(text.width for text in self.text)
        if denoiser.cross_attention_dim != width:
            raise _misfit(
                f"the text encoders write vectors of {width} numbers;"
                f" the denoiser's {denoiser.cross_attention_dim} were expected"
            )

    def checkpoint(
        self, name: str, sha256: str, info: ModelInfo, placement: Placement, latent_scale: float
    ) -> Checkpoint:
        """The checkpoint these modules are once they have their weights."""
        for module in (self.unet, self.vae):
            module.to(memory_format=torch.channels_last)  # faster convolutions on CPUs and GPUs alike
        for module in (self.unet, self.vae, *(text.module for text in self.text)):
            module.requires_grad_(False)
        for text in self.text:
            text.place_positions(placement.device)
        sigmas = ModelSigmas.of(ZERO_TERMINAL_SNR if info.zero_terminal_snr else DEFAULT)
        return Checkpoint(name, sha256, info, self.unet, self.vae, self.text, sigmas, placement, latent_scale)


def check_colours(vae: AutoencoderKL) -> None:
    """Raise `ModelFileError` for an autoencoder of anything but images."""
    found = (vae.config.in_channels, vae.config.out_channels)
    if found != (COLOURS, COLOURS):
        raise _misfit(f"the VAE turns {found[0]} channels into {found[1]}; {COLOURS} colours were expected")


def _misfit(detail: str) -> ModelFileError:
    return ModelFileError(detail, field="checkpoint")
