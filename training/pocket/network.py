"""Pocket's denoiser and text encoder: SD1's modules, a few hundred times smaller."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from . import optim, tokens

UNET_HEADS, UNET_NORM_GROUPS = 4, 16
TEXT_HEADS, TEXT_WIDTH = 4, 64
STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012


def alphas_cumprod() -> torch.Tensor:
    """SD1's scaled-linear schedule, float32 (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, STEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def build_unet() -> UNet2DConditionModel:
    """Three levels; attention from half resolution down, where it is cheap and places are decided."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=UNET_HEADS,  # diffusers reads this as the number of heads for SD1
        norm_num_groups=UNET_NORM_GROUPS,
    )
    return unet.to(memory_format=torch.channels_last)


def build_text_encoder(vocabulary: int = tokens.VOCABULARY) -> CLIPTextModel:
    """CLIP's text tower with SD1's token positions and activation."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=tokens.LENGTH,
        hidden_act="quick_gelu",
        projection_dim=TEXT_WIDTH,
        bos_token_id=0,
        eos_token_id=1,
    )
    return CLIPTextModel(config)


class Denoiser(nn.Module):
    """UNet and text encoder over the compact token table; predicts v."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = build_unet()
        optim.zero_residuals(self.unet)
        nn.init.zeros_(self.unet.conv_out.weight)
        rows = len(tokens.known())
        self.text = build_text_encoder(rows + tokens.STRANGERS)
        table = self.table()
        with torch.no_grad():
            table.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
        trained = torch.zeros(len(table), 1)
        trained[:rows] = 1
        self.register_buffer("trained", trained, persistent=False)
        table.register_hook(lambda gradient: gradient * self.trained)

    def table(self) -> nn.Parameter:
        """Token embeddings: trained rows first, then the frozen strangers."""
        return self.text.get_input_embeddings().weight

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, 77) compact rows to (n, 77, 64), after the final layer norm; causal mask only."""
        return self.text(input_ids=rows).last_hidden_state

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.unet(noisy, t, encoder_hidden_states=context).sample
