"""Pictures to latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloudbrush.engine import memory
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.noise import cpu_noise


@dataclass(frozen=True, eq=False)
class Posterior:
    """What an autoencoder makes of a picture: a distribution of latents, as the denoiser sees them."""

    mean: Tensor  # (channels, height, width), float32
    deviation: Tensor  # the same

    def sample(self, seed: int) -> Tensor:
        """The latents an image begins with, drawn by a generator of its own.

        The WebUI draws from torch's global generator on the CPU, which the image's seed has just set unless
        noise comes from NV; so this is what it gives for a single image, and the same for each of a batch.
        """
        drawn = cpu_noise(seed, tuple(self.mean.shape))()
        return self.mean + self.deviation * drawn.to(self.mean.device)


@torch.inference_mode()
def encode(checkpoint: Checkpoint, pixels: Tensor) -> Posterior:
    """The latents of one picture, (3, height, width) in -1..1; raises `GenerationFailed` if too large."""
    try:
        batch = pixels[None].to(checkpoint.placement.device)
        found = checkpoint.vae.encode(batch.contiguous(memory_format=torch.channels_last)).latent_dist
    except Exception as error:
        if not memory.ran_out(error):
            raise
        memory.release()
        raise memory.too_large("encoding an image of this size") from error
    scale = checkpoint.latent_scale
    return Posterior(found.mean[0].float() * scale, found.std[0].float() * scale)


def to_pixels(image: Image.Image) -> Tensor:
    """An RGB image as (3, height, width) in -1..1."""
    eight_bits = torch.from_numpy(np.array(image.convert("RGB")))
    return eight_bits.permute(2, 0, 1).float() / 255 * 2 - 1
