"""Latents to finished files: decode, 8 bits, PNG with the infotext inside."""

from __future__ import annotations

import io

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.engine import memory
from cloudbrush.engine.models.checkpoint import Checkpoint


@torch.inference_mode()
def decode(checkpoint: Checkpoint, latents: Tensor) -> Image.Image:
    """One image of (channels, height, width) latents, alone; raises `GenerationFailed` if it cannot be."""
    try:
        decoded: Tensor = checkpoint.vae.decode(latents[None] / checkpoint.latent_scale, return_dict=False)[0]
    except Exception as error:
        if not memory.ran_out(error):
            raise
        memory.release()
        raise memory.too_large("decoding an image of this size") from error
    if not bool(decoded.isfinite().all()):
        raise GenerationFailed(
            "the model gave no picture but values that are not numbers",
            hint="Try another sampling method, fewer steps or smaller prompt weights.",
        )
    return to_image(decoded[0])


def to_image(pixels: Tensor) -> Image.Image:
    """(3, height, width) in -1..1 as 8 bits, cut off rather than rounded, as the WebUI does."""
    eight_bits = (((pixels + 1) / 2).clamp(0, 1) * 255).to(torch.uint8)
    return Image.fromarray(eight_bits.permute(1, 2, 0).cpu().numpy())


def to_png(image: Image.Image, infotext: str) -> bytes:
    """The PNG of an image with its infotext as `parameters` (tEXt, or iTXt beyond Latin-1)."""
    info = PngInfo()
    info.add_text("parameters", infotext)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
