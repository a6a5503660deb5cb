"""What an image to image run begins with: latents of a picture, and with a mask what stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import MAX_SIDE, Img2Img, Inpainting
from cloudbrush.engine import inpainting, pictures
from cloudbrush.engine.encoding import Posterior, encode, to_pixels
from cloudbrush.engine.inpainting import Overlay, Painting
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.noise import image_noise
from cloudbrush.engine.pictures import RESIZES

LATENT_RESIZE = "Just resize (latent upscale)"


@dataclass(frozen=True, eq=False)
class Beginning:
    """What one image of a pass begins with, beside noise."""

    latents: Tensor | None = None  # (channels, height, width); None: noise alone
    painted: Tensor | None = None  # (height, width) 1 where painted, 0 where the latents stay; None: all is
    masked: Tensor | None = None  # (1 + channels, height, width) for an inpainting checkpoint

    def restore(self, denoised: Tensor) -> Tensor:
        """Denoised latents with those put back that are to stay."""
        if self.painted is None or self.latents is None:
            return denoised
        return denoised * self.painted + self.latents * (1 - self.painted)


@dataclass(frozen=True, eq=False)
class Stencil:
    """The part of a canvas that is painted, when it is not all of it."""

    fill: str
    painted: Tensor  # (height, width) of the latents
    overlay: Overlay
    hidden: Posterior  # of the picture without what is masked, which inpainting checkpoints see
    mask: Tensor  # (1, height, width) as they see the mask


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture as a run paints over it."""

    generation: Img2Img
    picture: Posterior
    sides: tuple[int, int]  # height and width of the latents that are painted
    stencil: Stencil | None = None

    @classmethod
    def of(cls, generation: Img2Img, files: Mapping[str, bytes], checkpoint: Checkpoint) -> Canvas:
        """The canvas of a run; raises `InvalidInput` for a picture or mask that cannot be read."""
        assert generation.width is not None
        assert generation.height is not None
        size = (generation.width, generation.height)
        sides = (size[1] // checkpoint.downscale, size[0] // checkpoint.downscale)
        picture = pictures.read_picture(_file(files, generation.image, "image"))
        resize = RESIZES[generation.resize_mode]
        if how := generation.inpainting:
            mask = pictures.read_mask(_file(files, how.mask, "mask"))
            painting = inpainting.prepare(picture, mask, how, size, resize)
            if painting is not None:
                return cls(generation, *_stencilled(painting, how, checkpoint, sides))
        if generation.resize_mode == LATENT_RESIZE:
            picture.thumbnail((MAX_SIDE, MAX_SIDE), pictures.LANCZOS)  # no larger than images can be
        else:
            picture = resize(picture, *size)
        return cls(generation, encode(checkpoint, to_pixels(picture)), sides)

    def beginning(self, index: int) -> Beginning:
        """What the image of that number begins with."""
        seed, _ = self.generation.seeds(index)
        latents = self.picture.sample(seed)
        if latents.shape[1:] != self.sides:
            latents = functional.interpolate(latents[None], size=self.sides, mode="bilinear")[0]
        if self.stencil is None:
            return Beginning(latents)
        painted = self.stencil.painted
        if self.stencil.fill in ("latent noise", "latent nothing"):
            latents = latents * (1 - painted)
        if self.stencil.fill == "latent noise":
            noise = image_noise(self.generation.noise_source, seed, tuple(latents.shape))()
            latents = latents + noise.to(latents.device) * painted
        masked = torch.cat([self.stencil.mask, self.stencil.hidden.sample(seed)])
        return Beginning(latents, painted, masked)

    def finished(self, image: Image.Image) -> Image.Image:
        """A painted image with what was not to be painted put back."""
        return image if self.stencil is None else self.stencil.overlay.over(image)


def _stencilled(
    painting: Painting, how: Inpainting, checkpoint: Checkpoint, sides: tuple[int, int]
) -> tuple[Posterior, tuple[int, int], Stencil]:
    picture = painting.picture
    if how.fill != "original":
        picture = inpainting.with_blurred_filling(picture, painting.mask)
    pixels, mask = to_pixels(picture), inpainting.as_number(painting.mask)
    device = checkpoint.placement.device
    stencil = Stencil(
        how.fill,
        inpainting.at_latents(painting.mask, *sides).to(device),
        painting.overlay,
        encode(checkpoint, torch.lerp(pixels, pixels * (1 - mask), how.mask_weight)),
        functional.interpolate(mask[None, None], size=sides)[0].to(device),
    )
    return encode(checkpoint, pixels), sides, stencil


def _file(files: Mapping[str, bytes], picture: str, field: str) -> bytes:
    if picture not in files:
        raise InvalidInput(
            f"the {field} {picture[:64]} is not there", field=field, hint="Hand the picture in again."
        )
    return files[picture]
