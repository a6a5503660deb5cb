"""What a denoiser predicts, found out by trying: the WebUI's probe of SD2 files (specification 4.4)."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

_LEVEL = 0.5  # of everything the denoiser is given
_TEXT = 2  # tokens
_SIDE = 8  # latents
_BOUND = -1.0


@torch.inference_mode()
def predicts_v(unet: UNet2DConditionModel) -> bool:
    """Whether it predicts v: at the last timestep that is all but minus the image, and epsilon the input."""
    side = max(_SIDE, 2 ** (len(unet.config.block_out_channels) - 1))
    place = {"device": unet.device, "dtype": unet.dtype}
    x = torch.full((1, int(unet.config.in_channels), side, side), _LEVEL, **place)
    text = torch.full((1, _TEXT, int(unet.config.cross_attention_dim)), _LEVEL, **place)
    output = unet(x, torch.tensor([999], device=unet.device), encoder_hidden_states=text).sample
    return bool((output.float() - x.float()).mean() < _BOUND)
