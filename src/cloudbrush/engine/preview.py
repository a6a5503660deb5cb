"""Cheap previews: latents as colours through linear maps, fitted once to whatever autoencoder is loaded."""

from __future__ import annotations

import io
import itertools

import torch
from PIL import Image
from torch import Tensor

from cloudbrush.engine.models.checkpoint import Checkpoint

_COLOURS = [*itertools.product((-1.0, 1.0), repeat=3), (0.0, 0.0, 0.0)]  # the corners, and grey
_BORDER = 2  # latents along an edge that see the autoencoder's padding, and get maps of their own
_SIDE = 2 * _BORDER + 2  # latents a side of what the maps are fitted to
_LONGEST = 256  # pixels a side of a preview
_QUALITY = 70


class Preview:
    """Linear maps from a checkpoint's latents to colours: one for the inside, others along the edges."""

    def __init__(self, maps: Tensor) -> None:
        self._maps = maps  # (side, side, channels + 1, 3), the last row of each is the constant

    @classmethod
    @torch.inference_mode()
    def fit(cls, checkpoint: Checkpoint) -> Preview:
        """Least squares over the encodings of solid colours."""
        device = checkpoint.placement.device
        colours = torch.tensor(_COLOURS, device=device)
        side = _SIDE * checkpoint.downscale
        images = colours[:, :, None, None].expand(-1, -1, side, side)
        latents = checkpoint.vae.encode(images).latent_dist.mean * checkpoint.latent_scale
        known = latents.permute(2, 3, 0, 1).cpu().double()
        known = torch.cat([known, torch.ones_like(known[..., :1])], dim=-1)
        wanted = colours.cpu().double().expand(_SIDE, _SIDE, -1, -1)
        maps = torch.linalg.lstsq(known, wanted, driver="gelsd").solution
        return cls(maps.float().to(device))

    def jpeg(self, latents: Tensor) -> bytes:
        """A small JPEG of (channels, height, width) latents."""
        rows, columns = (_nearest(length) for length in latents.shape[1:])
        maps = self._maps[rows][:, columns]
        colours = torch.einsum("chw,hwcr->hwr", latents, maps[:, :, :-1]) + maps[:, :, -1]
        pixels = ((colours.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).cpu().numpy()
        image = Image.fromarray(pixels)
        scale = _LONGEST / max(image.size)
        if scale > 1:
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()


def _nearest(length: int) -> list[int]:
    """For each place along a side the fitted place that is as far from the nearer edge."""
    places = []
    for place in range(length):
        after = length - 1 - place
        places.append(min(place, _BORDER) if place <= after else _SIDE - 1 - min(after, _BORDER))
    return places
