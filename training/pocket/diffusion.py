"""Trains UNet and text encoder together on latents of drawings, first small ones, then full-sized."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import autoencoder, captions, drawings, network, optim, sampling, scenes, sheets, tokens
from .autoencoder import Autoencoder
from .network import Denoiser
from .run import Run

Size = tuple[int, int]  # latent height and width
BATCH = 32
EMPTY, STRANGE = 0.10, 0.08  # shares of empty prompts (for guidance) and of captions with unknown words
# Shares of sizes in each phase: text binds to colour as well on small pictures, at a third of the price.
PHASES: tuple[tuple[float, dict[Size, float]], ...] = (
    (0.10, {(8, 8): 1.0}),
    (0.60, {(12, 12): 0.7, (16, 16): 0.3}),
    (1.00, {(16, 16): 0.88, (12, 12): 0.04, (8, 8): 0.04, (16, 24): 0.01, (24, 16): 0.01, (24, 24): 0.02}),
)
PROMPTS = (
    "a red circle on a blue background",
    "a small red circle above a blue square on a green background",
    "three yellow stars",
    "blue background with a heart in the top left corner",
    "a purple crescent on a yellow background",
    "a white cross on a red background with stripes",
    "four black triangles on a pink background",
    "a green ring to the left of an orange square on a white background",
    "a pink heart inside a large brown circle on a cyan gradient background",
    "two orange squares on a gray background",
    "a big cyan star on a black polka dot background",
    "a blue triangle in the bottom right corner on a white background",
    "a yellow circle, a red heart and a green star on a purple background",
    "white moon, black background",
    "a brown square below a cyan ring on an orange background",
    "a small gray donut at the top on a green background",
)


@dataclass
class Pool:
    """Latents of drawings of one size; grows while training, so that nobody waits and variety never ends."""

    size: Size
    seed: int
    limit: int
    latents: list[torch.Tensor] = field(default_factory=list)

    def scene(self, index: int) -> scenes.Scene:
        """Drawing number `index`, the same in every run."""
        return scenes.sample(np.random.default_rng([self.seed, 2, *self.size, index]))

    def grow(self, model: Autoencoder, count: int, device: str) -> None:
        count = min(count, self.limit - len(self.latents))
        if count <= 0:
            return
        start = len(self.latents)
        height, width = (side * 8 for side in self.size)
        images = np.stack(
            [drawings.render(self.scene(i), width, height) for i in range(start, start + count)]
        )
        batch = autoencoder.to_tensor(images).to(device, memory_format=torch.channels_last)
        with torch.no_grad():
            self.latents.extend(model.encode(batch).float().cpu().unbind())

    def draw(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[str]]:
        """Latents (n, 4, h, w) and a fresh caption for each."""
        indices = rng.integers(0, len(self.latents), count)
        texts = ["" if rng.random() < EMPTY else captions.caption(self.scene(int(i)), rng) for i in indices]
        return torch.stack([self.latents[i] for i in indices]), texts


def v_loss(model: Denoiser, latents: torch.Tensor, rows: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Mean squared error of v (Salimans & Ho, 2022) at stratified timesteps, dense where outlines form."""
    count = len(latents)
    share = (torch.arange(count) + torch.rand(count)) / count
    share += 0.4 * (2 * torch.pi * share).sin() / (2 * torch.pi)
    t = (share * network.STEPS).long().clamp(max=network.STEPS - 1)
    noise = torch.randn_like(latents)
    a = alphas[t].to(latents.device).view(-1, 1, 1, 1)
    noisy, v = a.sqrt() * latents + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * latents
    output = model(
        noisy.contiguous(memory_format=torch.channels_last), t.to(latents.device), model.encode(rows)
    )
    return F.mse_loss(output.float(), v)


class Trainer:
    """Everything that lives as long as the stage: model, average, pools."""

    def __init__(self, run: Run, seconds: float, lr: float) -> None:
        self.run, self.seconds, self.lr = run, seconds, lr
        torch.manual_seed(run.seed + 1)
        self.vae = autoencoder.load(run.folder, run.device)
        self.model = Denoiser().to(run.device)
        self.optimiser = optim.build([self.model.unet, self.model.text], lr)
        self.average = optim.Average(self.model, 0.996)
        self.alphas = network.alphas_cumprod()
        self.pools: dict[Size, Pool] = {}

    def parts(self) -> dict[str, object]:
        return {"model": self.model, "optimiser": self.optimiser, "average": self.average.module}

    def pool(self, size: Size) -> Pool:
        """The pool of a size, filled enough to start with."""
        if size not in self.pools:
            square = size[0] == size[1] and size[0] <= 16
            self.pools[size] = Pool(size, self.run.seed, 40_000 if square else 1_500)
            for _ in range(12 if square else 4):
                self.pools[size].grow(self.vae, 64, self.run.device)
        return self.pools[size]

    def step(self, number: int, share: float) -> float:
        rng = np.random.default_rng([self.run.seed, 3, number])
        torch.manual_seed(int(rng.integers(2**62)))
        mix = next(mix for until, mix in PHASES if share < until)
        size = list(mix)[int(rng.choice(len(mix), p=list(mix.values())))]
        pool = self.pool(size)
        pool.grow(self.vae, 2, self.run.device)
        latents, texts = pool.draw(rng, BATCH)
        rows = tokens.compact(texts, rng, STRANGE).to(self.run.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * optim.cosine(share)
        value = v_loss(self.model, latents.to(self.run.device), rows, self.alphas)
        self.optimiser.zero_grad()
        value.backward()
        self.optimiser.step()
        self.average.update(self.model)
        return value.item()

    def sheet(self, step: int, early: bool) -> None:
        side = 8 if early else 16
        model = self.average.module
        context = model.encode(tokens.compact(list(PROMPTS)).to(self.run.device))
        negative = model.encode(tokens.compact([""] * len(PROMPTS)).to(self.run.device))
        latents = sampling.euler_a(model, context, negative, (side, side), list(range(len(PROMPTS))))
        with torch.no_grad():
            images = self.vae.decode(latents)
        images = F.interpolate(images, (128, 128)) if early else images
        sheets.save(images, self.run.folder / "sheets" / f"diffusion-{step:06d}.png", 8, list(PROMPTS))


def train(run: Run, seconds: float, lr: float = 2e-3) -> None:
    """Trains until `seconds` of training time are spent in all, resuming from the last checkpoint."""
    trainer = Trainer(run, seconds, lr)
    state = run.resume("diffusion", **trainer.parts())
    trainer.average.updates = state.step
    with run.progress("diffusion", seconds, state) as bar:
        while state.seconds < seconds:
            started, share = time.monotonic(), state.seconds / seconds
            loss = trainer.step(state.step, share)
            state.advance(time.monotonic() - started, loss)
            bar(state)
            if state.due(every=240):
                run.save("diffusion", state, **trainer.parts())
                trainer.sheet(state.step, share < PHASES[0][0])
    run.save("diffusion", state, **trainer.parts())
    trainer.sheet(state.step, early=False)


def load(folder: Path, device: str = "cpu") -> Denoiser:
    """The averaged weights of the last checkpoint."""
    model = Denoiser()
    record = torch.load(folder / "diffusion.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(record["average"])
    return model.eval().requires_grad_(False).to(device)
