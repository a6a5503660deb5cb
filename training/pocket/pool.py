"""Drawings as latents, with label maps and scenes: what the denoiser trains on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from . import autoencoder, captions, drawings, layout, scenes
from .autoencoder import Autoencoder

Size = tuple[int, int]  # latent height and width
EMPTY = 0.10  # share of empty prompts, for classifier-free guidance
CHUNK = 64  # drawings made at a time


@dataclass
class Pool:
    """Drawings of one size; number `i` is the same in every run with the same seed.

    Grows while training goes on.
    """

    size: Size
    seed: int
    scenes: list[scenes.Scene] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)  # (CHUNK, 4, h, w) each, float16
    labels: list[torch.Tensor] = field(default_factory=list)  # (CHUNK, 2, h, w) each, uint8

    def grow(self, model: Autoencoder, count: int, device: str) -> None:
        """Adds drawings, whole chunks of them, until there are at least `count`."""
        height, width = (side * 8 for side in self.size)
        while len(self.latents) * CHUNK < count:
            drawn = [self._scene(len(self.scenes) + i) for i in range(CHUNK)]
            self.scenes += drawn
            images = np.stack([drawings.render(scene, width, height) for scene in drawn])
            batch = autoencoder.to_tensor(images).to(device, memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                parts = [model.encode(part) for part in batch.split(8)]
            self.latents.append(torch.cat(parts).half().cpu().contiguous())
            self.labels.append(torch.from_numpy(np.stack([layout.labels(s, *self.size) for s in drawn])))

    def draw(
        self, rng: np.random.Generator, count: int, among: int
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Latents (n, 4, h, w), label maps (n, 2, h, w) and fresh captions, of the first `among`."""
        indices = [int(i) for i in rng.integers(0, among, count)]
        texts = ["" if rng.random() < EMPTY else captions.caption(self.scenes[i], rng) for i in indices]
        latents = torch.stack([self.latents[i // CHUNK][i % CHUNK] for i in indices]).float()
        return latents, torch.stack([self.labels[i // CHUNK][i % CHUNK] for i in indices]), texts

    def save(self, folder: Path) -> None:
        """Keeps latents and labels, so that a resumed run need not draw again."""
        record = {"latents": self.latents, "labels": self.labels}
        draft = self._path(folder).with_suffix(".draft")
        torch.save(record, draft)
        draft.replace(self._path(folder))

    def restore(self, folder: Path) -> None:
        """Takes up what `save` kept, if anything."""
        if self._path(folder).exists():
            record = torch.load(self._path(folder), weights_only=True)
            self.latents, self.labels = record["latents"], record["labels"]
            self.scenes = [self._scene(i) for i in range(len(self.latents) * CHUNK)]

    def _scene(self, index: int) -> scenes.Scene:
        return scenes.sample(np.random.default_rng([self.seed, 2, *self.size, index]))

    def _path(self, folder: Path) -> Path:
        return folder / f"pool-{self.size[0]}x{self.size[1]}.pt"
