"""Group norms and attention that train quickly on a CPU, where torch's own backward passes crawl."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextModel


class _Normalise(torch.autograd.Function):
    """y = scale * x + shift with per-channel numbers: few passes over the pixels, sums in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
    ) -> torch.Tensor:
        n, c = x.shape[:2]
        pixels = x.permute(0, 2, 3, 1).reshape(n, -1, c)
        count = pixels.shape[1] * c // groups
        mean = pixels.sum(1, dtype=torch.float32).view(n, groups, -1).sum(2) / count
        square = torch.linalg.vector_norm(pixels, dim=1, dtype=torch.float32).square()
        square = square.view(n, groups, -1).sum(2) / count
        rstd = (square - mean.square()).clamp(min=0).add(eps).rsqrt()
        scale = rstd[..., None] * weight.view(groups, -1)
        shift = bias.view(groups, -1) - mean[..., None] * scale
        scale, shift = (each.reshape(n, 1, c).to(x.dtype) for each in (scale, shift))
        y = torch.addcmul(shift, pixels, scale)
        ctx.save_for_backward(pixels, weight, mean, rstd, scale)
        return y.view(n, *x.shape[2:], c).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        pixels, weight, mean, rstd, scale = ctx.saved_tensors
        n, c, groups = dy.shape[0], dy.shape[1], mean.shape[1]
        slopes = dy.permute(0, 2, 3, 1).reshape(n, -1, c)
        count = pixels.shape[1] * c // groups
        along = (slopes * pixels).sum(1, dtype=torch.float32).view(n, groups, -1)
        total = slopes.sum(1, dtype=torch.float32).view(n, groups, -1)
        gamma = weight.view(groups, -1)
        a, b = (along * gamma).sum(2), (total * gamma).sum(2)
        by_x = (b * mean - a) * rstd**3 / count
        constant = -by_x * mean - b * rstd / count
        by_x, constant = (
            each[..., None].expand(-1, -1, c // groups).reshape(n, 1, c).to(dy.dtype)
            for each in (by_x, constant)
        )
        dx = torch.addcmul(constant, pixels, by_x).addcmul_(slopes, scale)
        dweight = ((along - mean[..., None] * total) * rstd[..., None]).sum(0).view(c)
        return dx.view(n, *dy.shape[2:], c).permute(0, 3, 1, 2), dweight, total.sum(0).view(c), None, None


class GroupNorm(nn.GroupNorm):
    """The same numbers as torch's, up to rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 4 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        return _Normalise.apply(x, self.weight, self.bias, self.num_groups, self.eps)


def quicken(module: nn.Module) -> None:
    """Swaps a module's group norms, and attention for plain matrix products, in place; the weights stay."""
    for each in module.modules():
        if type(each) is nn.GroupNorm:
            each.__class__ = GroupNorm
        if isinstance(each, UNet2DConditionModel):
            each.set_attn_processor(AttnProcessor())
        if isinstance(each, CLIPTextModel):
            each.set_attn_implementation("eager")
