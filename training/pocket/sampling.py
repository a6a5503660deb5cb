"""Euler a (Katherine Crowson's k-diffusion) over a v-predicting UNet, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import network

Model = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # noisy, timestep, context -> v


def schedule(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps (steps,) evenly from 999 to 0, and their sigmas (steps + 1,) with a final 0."""
    alphas = network.alphas_cumprod()
    logs = ((1 - alphas) / alphas).sqrt().log()
    t = torch.linspace(network.STEPS - 1, 0, steps)
    low = t.floor().long()
    high = (low + 1).clamp(max=network.STEPS - 1)
    sigmas = torch.lerp(logs[low], logs[high], t - low).exp()
    return t, torch.cat([sigmas, torch.zeros(1)])


@torch.no_grad()
def euler_a(
    model: Model,
    context: torch.Tensor,
    negative: torch.Tensor,
    size: tuple[int, int],
    seeds: list[int],
    steps: int = 20,
    cfg: float = 6.0,
) -> torch.Tensor:
    """Latents (n, 4, *size) of unit variance, one generator per image.

    `context` and `negative` are (n, 77, width).
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise() -> torch.Tensor:
        return torch.stack([torch.randn(4, *size, generator=g) for g in generators]).to(context.device)

    timesteps, sigmas = schedule(steps)
    x = noise() * sigmas[0]
    both = torch.cat([context, negative])
    for t, sigma, following in zip(timesteps, sigmas, sigmas[1:], strict=False):
        scale = (sigma**2 + 1).sqrt()
        stacked = torch.cat([x, x]) / scale
        v = model(
            stacked.contiguous(memory_format=torch.channels_last), t.expand(len(stacked)).to(x.device), both
        )
        wanted, unwanted = v.chunk(2)
        v = unwanted + (wanted - unwanted) * cfg
        denoised = x / scale**2 - v * sigma / scale
        up = min(following, (following**2 * (sigma**2 - following**2) / sigma**2).sqrt())
        down = (following**2 - up**2).sqrt()
        x = x + (x - denoised) / sigma * (down - sigma)
        if following > 0:
            x = x + noise() * up
    return x
