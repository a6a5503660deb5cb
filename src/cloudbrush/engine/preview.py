"""Cheap previews: latents as colours through a linear map, fitted once to whatever autoencoder is loaded."""

from __future__ import annotations

import io
import itertools

import torch
from PIL import Image
from torch import Tensor

from cloudbrush.engine.models.checkpoint import Checkpoint

_COLOURS = [*itertools.product((-1.0, 1.0), repeat=3), (0.0, 0.0, 0.0)]  # the corners, and grey
_SIDE = 48  # pixels of a picture of one colour
_BORDER = 2  # latents at the edges, which see the padding
_LONGEST = 256  # pixels a side of a preview
_QUALITY = 70


class Preview:
    """The linear map from a checkpoint's latents to colours."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix  # (channels + 1, 3), the last row is the constant

    @classmethod
    @torch.inference_mode()
    def fit(cls, checkpoint: Checkpoint) -> Preview:
        """Least squares over the encodings of solid colours."""
        device = checkpoint.placement.device
        colours = torch.tensor(_COLOURS, device=device)
        images = colours[:, :, None, None].expand(-1, -1, _SIDE, _SIDE)
        latents = checkpoint.vae.encode(images).latent_dist.mean * checkpoint.latent_scale
        inner = latents[:, :, _BORDER:-_BORDER, _BORDER:-_BORDER].mean(dim=(2, 3))
        known = torch.cat([inner, torch.ones_like(inner[:, :1])], dim=1).double().cpu()
        matrix = torch.linalg.lstsq(known, colours.double().cpu(), driver="gelsd").solution
        return cls(matrix.float().to(device))

    def jpeg(self, latents: Tensor) -> bytes:
        """A small JPEG of (channels, height, width) latents."""
        colours = torch.einsum("chw,cr->hwr", latents, self._matrix[:-1]) + self._matrix[-1]
        pixels = ((colours.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).cpu().numpy()
        image = Image.fromarray(pixels)
        scale = _LONGEST / max(image.size)
        if scale > 1:
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()
