"""Trains the image autoencoder (8x down, 4 latent channels) on drawings and crops of drawings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from . import drawings, optim, quick, scenes, sheets
from .run import Run, State

NORM_GROUPS = 8
LATENT_NOISE = 0.08  # relative to unit variance: the decoder learns to forgive a denoiser's small errors
EDGE_WEIGHT = 10.0
FINE = ("star", "crescent")  # shapes whose outlines are lost first
FINE_SHARE = 0.4  # of the drawings have one for certain
VALIDATION_SEED = 1_000_003


def build(widths: tuple[int, ...] = (16, 32, 64, 96)) -> AutoencoderKL:
    """The bare SD1 autoencoder, narrow."""
    vae = AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=NORM_GROUPS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=1.0,
        sample_size=128,
    )
    optim.zero_residuals(vae)
    return vae.to(memory_format=torch.channels_last)


class Autoencoder(nn.Module):
    """AutoencoderKL without sampling: its mean, brought to zero mean and unit variance per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = build()
        self.norm = nn.BatchNorm2d(4, affine=False, momentum=0.02)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in -1..1 to normalised latents (n, 4, h/8, w/8)."""
        moments = self.vae.quant_conv(self.vae.encoder(images))
        return self.norm(moments[:, :4])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised latents to images in -1..1, not clipped."""
        return self.vae.decoder(self.vae.post_quant_conv(latents))


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1, channels last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def batch(rng: np.random.Generator, size: int, count: int) -> torch.Tensor:
    """Crops of `size` from drawings of varying scale; held-out combinations are never drawn."""
    crops = []
    while len(crops) < count:
        side = int(rng.integers(max(size, 112), max(size, 112) + 40)) if size < 128 else size
        scene = scenes.sample(rng)
        if rng.random() < FINE_SHARE:
            while not any(thing.shape in FINE for thing in scene.things):
                scene = scenes.sample(rng)
        image = drawings.render(scene, side, side)
        for _ in range(2 if size < 128 else 1):
            y, x = rng.integers(0, side - size + 1, 2)
            crops.append(image[y : y + size, x : x + size])
    return to_tensor(np.stack(crops[:count]))


def loss(images: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Absolute error, squared error for flat colour, and error of differences for crisp edges.

    Pixels near edges count several times: outlines are few, and they are what tells a star from a blot.
    """
    error = output.float() - images
    slope = F.pad(images.diff(dim=-1).abs(), (0, 1)) + F.pad(images.diff(dim=-2).abs(), (0, 0, 0, 1))
    weight = 1 + EDGE_WEIGHT * F.max_pool2d(slope.mean(1, keepdim=True), 5, 1, 2).clamp(max=0.4)
    dx, dy = error.diff(dim=-1) * weight[..., 1:], error.diff(dim=-2) * weight[..., 1:, :]
    flat = (weight * (error.abs() + error.square())).mean()
    return flat + 0.5 * (dx.abs().mean() + dy.abs().mean())


@torch.no_grad()
def psnr(model: Autoencoder, count: int = 48, device: str = "cpu") -> float:
    """Mean PSNR in dB of the 8-bit round trip over drawings with held-out combinations."""
    images = validation(count).to(device)
    output = torch.cat([model.decode(model.encode(part)) for part in images.split(16)])
    output = ((output.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    mse = ((output - images) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * mse.log10()).mean())


def validation(count: int) -> torch.Tensor:
    """The first held-out drawings of a fixed seed."""
    rng = np.random.default_rng(VALIDATION_SEED)
    found: list[np.ndarray] = []
    while len(found) < count:
        scene = scenes.sample_any(rng)
        if scenes.is_held_out(scene):
            found.append(drawings.render(scene))
    return to_tensor(np.stack(found))


def train(run: Run, steps: int, lr: float = 6e-3, start: Autoencoder | None = None) -> None:
    """Trains the whole autoencoder for so many steps in all, from `start` if given."""
    torch.manual_seed(run.seed)
    _fit(run, "autoencoder", (start or Autoencoder()).to(run.device), steps, lr)


def polish(run: Run, steps: int, lr: float = 3e-3) -> None:
    """Trains the decoder on; the encoder stays, so latents that a denoiser has learnt keep their meaning."""
    model = load(run.folder, run.device)
    for part in (model.vae.decoder, model.vae.post_quant_conv):
        part.requires_grad_(True)
    _fit(run, "decoder", model, steps, lr)


def _fit(run: Run, stage: str, model: Autoencoder, steps: int, lr: float) -> None:
    whole = stage == "autoencoder"
    model.train(whole)
    quick.quicken(model)
    optimiser = optim.build([model.vae], lr)
    average = optim.Average(model, 0.995)
    parts = {"model": model, "optimiser": optimiser, "average": average.module}
    state = run.resume(stage, **parts)
    average.updates = state.step
    with run.progress(stage, steps, state) as bar:
        while state.step < steps:
            started, share = time.monotonic(), state.step / steps
            for group in optimiser.param_groups:
                group["lr"] = lr * optim.cosine(share)
            rng = np.random.default_rng([run.seed, 1, int(whole), state.step])
            torch.manual_seed(int(rng.integers(2**62)))
            size, count = (64, 32) if whole and share < 0.75 else (128, 8)
            images = batch(rng, size, count).to(run.device, memory_format=torch.channels_last)
            with run.autocast():
                with torch.set_grad_enabled(whole):
                    latents = model.encode(images)
                output = model.decode(latents + LATENT_NOISE * torch.randn_like(latents))
            value = loss(images, output)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            average.update(model)
            state.advance(time.monotonic() - started, value.item())
            bar(state)
            if state.due(every=180):
                _keep(run, stage, state, parts)
    _keep(run, stage, state, parts)


def _keep(run: Run, stage: str, state: State, parts: dict[str, Any]) -> None:
    state.note(psnr=psnr(parts["average"], 48, run.device))
    run.save(stage, state, **parts)
    _sheet(run, parts["average"], stage, state.step)


@torch.no_grad()
def _sheet(run: Run, model: Autoencoder, stage: str, step: int) -> None:
    images = validation(16).to(run.device)
    pairs = torch.cat(
        [
            images[:8],
            model.decode(model.encode(images[:8])),
            images[8:],
            model.decode(model.encode(images[8:])),
        ]
    )
    sheets.save(pairs, run.folder / "sheets" / f"{stage}-{step:06d}.png", columns=8)


def load(folder: Path, device: str = "cpu") -> Autoencoder:
    """The averaged weights of the last checkpoint, with the polished decoder if there is one."""
    model = Autoencoder()
    for stage in ("autoencoder", "decoder"):
        path = folder / f"{stage}.pt"
        if path.exists():
            model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    return model.eval().requires_grad_(False).to(device)
