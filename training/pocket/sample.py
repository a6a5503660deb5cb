"""Paints prompts with an exported Pocket: `python -m training.pocket.sample "a red star" -o star.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import export, sampling, sheets
from .diffusion import PROMPTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", nargs="*", default=list(PROMPTS))
    parser.add_argument("-o", "--output", type=Path, default=Path("build/pocket/samples.png"))
    parser.add_argument("--model", type=Path, default=export.BUILTIN / "Stable-diffusion/pocket.safetensors")
    parser.add_argument("--negative", default="")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    model = export.read(asked.model)
    prompts, (width, height) = asked.prompts, asked.size
    context, negative = model.encode(prompts), model.encode([asked.negative] * len(prompts))
    seeds = [asked.seed + i for i in range(len(prompts))]
    latents = sampling.euler_a(
        model.denoise, context, negative, (height // 8, width // 8), seeds, asked.steps, asked.cfg
    )
    images = torch.cat([model.decode(part) for part in latents.split(8)])
    sheets.save(images, asked.output, min(8, len(images)), prompts)


if __name__ == "__main__":
    main()
