"""Trains UNet and text encoder together on latents of drawings, with a hint of what is where."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import autoencoder, layout, network, optim, quick, reading, sampling, sheets, tokens
from .network import Denoiser
from .pool import Pool, Size
from .run import Run

NATIVE: Size = (16, 16)
BATCH = 32
STRANGE = 0.08  # share of captions with unknown words
TEXT_RATE = 0.3  # of the learning rate: the text encoder can read already
HINT = 0.15  # weight of the layout loss at first; it fades to 0 at HINT_ENDS of the run
HINT_ENDS = 0.8
OTHERS: tuple[Size, ...] = ((8, 8), (12, 12), (16, 24), (24, 16), (24, 24), (32, 32))
OTHERS_FROM, OTHERS_SHARE = 0.5, 0.10  # other sizes come late and seldom: they cost more than they teach
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


def noised(
    latents: torch.Tensor, alphas: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps, v (Salimans & Ho, 2022) and share of noise.

    Timesteps are stratified over the batch and dense in the middle, where outlines form.
    """
    count = len(latents)
    share = (torch.arange(count) + torch.rand(count)) / count
    share += 0.5 * (2 * torch.pi * share).sin() / (2 * torch.pi)
    t = (share * network.STEPS).long().clamp(max=network.STEPS - 1)
    noise = torch.randn_like(latents)
    a = alphas[t].to(latents.device).view(-1, 1, 1, 1)
    noisy, v = a.sqrt() * latents + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * latents
    return noisy.contiguous(memory_format=torch.channels_last), t.to(latents.device), v, 1 - a.flatten()


class Hinted(nn.Module):
    """A denoiser with a head that names what is where, from features after the middle levels.

    The mean squared error of v alone takes many times as long to bind words to places.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        block = denoiser.unet.up_blocks[-2]
        self.head = layout.head(denoiser.unet.config.block_out_channels[1])
        block.register_forward_hook(self._keep)
        self.features = torch.empty(0)

    def _keep(self, _: nn.Module, __: object, output: torch.Tensor) -> None:
        self.features = output

    def losses(
        self, latents: torch.Tensor, maps: torch.Tensor, rows: torch.Tensor, alphas: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of v, and of the label maps, the noisier the heavier: there the words must decide."""
        noisy, t, v, noise = noised(latents, alphas)
        output = self.denoiser(noisy, t, self.denoiser.encode(rows))
        logits = self.head(self.features).float()
        self.features = torch.empty(0)
        return F.mse_loss(output.float(), v), layout.loss(logits, layout.targets(maps), noise)


class Trainer:
    """Everything that lives as long as the stage: model, average, pools."""

    def __init__(self, run: Run, steps: int, drawings: int, lr: float) -> None:
        self.run, self.steps, self.drawings, self.lr = run, steps, drawings, lr
        torch.manual_seed(run.seed + 1)
        self.vae = autoencoder.load(run.folder, run.device)
        self.model = Denoiser()
        self.model.text.load_state_dict(reading.load(run))
        self.hinted = Hinted(self.model).to(run.device)
        quick.quicken(self.hinted)
        self.optimiser = optim.build([self.model.unet, self.hinted.head], lr)
        for group in optim.build([self.model.text], lr).param_groups:
            self.optimiser.add_param_group({**group, "scale": TEXT_RATE})
        self.average = optim.Average(self.model, 0.998)
        self.alphas = network.alphas_cumprod()
        self.pools: dict[Size, Pool] = {}

    def parts(self) -> dict[str, object]:
        return {"model": self.hinted, "optimiser": self.optimiser, "average": self.average.module}

    def save(self, state: object) -> None:
        for pool in self.pools.values():
            pool.save(self.run.folder)
        self.run.save("diffusion", state, **self.parts())

    def pool(self, size: Size, count: int) -> Pool:
        """The pool of a size, with at least so many drawings."""
        if size not in self.pools:
            self.pools[size] = Pool(size, self.run.seed)
            self.pools[size].restore(self.run.folder)
        self.pools[size].grow(self.vae, count, self.run.device)
        return self.pools[size]

    def draw(self, rng: np.random.Generator, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, label maps and rows of tokens for a step."""
        size = NATIVE
        if number > OTHERS_FROM * self.steps and rng.random() < OTHERS_SHARE:
            size = OTHERS[int(rng.integers(len(OTHERS)))]
        count = min(BATCH, BATCH * NATIVE[0] * NATIVE[1] // (size[0] * size[1]))
        # The pool grows while it is used, so that nobody waits and variety comes to an end late.
        among = min(self.drawings, 2048 + 6 * number) if size == NATIVE else 640
        latents, maps, texts = self.pool(size, among).draw(rng, count, among)
        return latents, maps, tokens.compact(texts, rng, STRANGE)

    def step(self, number: int) -> tuple[float, float]:
        """One update; the two losses."""
        rng = np.random.default_rng([self.run.seed, 3, number])
        torch.manual_seed(int(rng.integers(2**62)))
        share = number / self.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * group.get("scale", 1.0) * optim.trapezoid(share)
        batch = [each.to(self.run.device) for each in self.draw(rng, number)]
        with self.run.autocast():
            value, hint = self.hinted.losses(*batch, self.alphas)
        self.optimiser.zero_grad()
        (value + HINT * max(1 - share / HINT_ENDS, 0) * hint).backward()
        self.optimiser.step()
        self.average.update(self.model)
        return value.item(), hint.item()

    def sheet(self, step: int) -> None:
        model = self.average.module
        with self.run.autocast():
            context = model.encode(tokens.compact(list(PROMPTS)).to(self.run.device)).detach()
            negative = model.encode(tokens.compact([""] * len(PROMPTS)).to(self.run.device)).detach()
            latents = sampling.euler_a(model, context, negative, NATIVE, list(range(len(PROMPTS))))
        with torch.no_grad():
            images = self.vae.decode(latents.float())
        sheets.save(images, self.run.folder / "sheets" / f"diffusion-{step:06d}.png", 8, list(PROMPTS))


def train(run: Run, steps: int, drawings: int = 40_000, lr: float = 2e-3) -> None:
    """Trains for so many steps in all, resuming from the last checkpoint."""
    trainer = Trainer(run, steps, drawings, lr)
    state = run.resume("diffusion", **trainer.parts())
    trainer.average.updates = state.step
    with run.progress("diffusion", steps, state) as bar:
        while state.step < steps:
            started = time.monotonic()
            loss, hint = trainer.step(state.step)
            state.advance(time.monotonic() - started, loss)
            state.note(hint=0.98 * state.notes.get("hint", hint) + 0.02 * hint)
            bar(state)
            if state.due(every=240):
                trainer.save(state)
                trainer.sheet(state.step)
    trainer.save(state)
    trainer.sheet(state.step)


def load(folder: Path, device: str = "cpu") -> Denoiser:
    """The averaged weights of the last checkpoint."""
    model = Denoiser()
    record = torch.load(folder / "diffusion.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(record["average"])
    return model.eval().requires_grad_(False).to(device)
