"""`python -m training.pocket` makes the model; `python -m training.pocket evaluate` scores it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import autoencoder, companions, diffusion, evaluate, export
from .run import Run

MODEL = export.BUILTIN / "pocket.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.pocket", description=__doc__)
    parser.add_argument(
        "stage",
        nargs="?",
        default="all",
        choices=("all", "autoencoder", "diffusion", "decoder", "export", "evaluate", "companions"),
    )
    parser.add_argument("--folder", type=Path, default=Path("build/pocket"), help="checkpoints and pictures")
    parser.add_argument("--model", type=Path, default=MODEL, help="the file to write or to score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autoencoder-seconds", type=float, default=2100, help="training time on 2 cores")
    parser.add_argument("--diffusion-seconds", type=float, default=4800)
    parser.add_argument("--decoder-seconds", type=float, default=400)
    parser.add_argument("--prompts", type=int, default=400, help="held-out prompts to score")
    parser.add_argument("--seeds", type=int, default=3, help="pictures of each prompt")
    asked = parser.parse_args()
    run = Run(asked.folder, asked.seed)
    wanted = ("autoencoder", "diffusion", "decoder", "export") if asked.stage == "all" else (asked.stage,)
    if "autoencoder" in wanted:
        autoencoder.train(run, asked.autoencoder_seconds)
    if "diffusion" in wanted:
        diffusion.train(run, asked.diffusion_seconds)
    if "decoder" in wanted:
        autoencoder.polish(run, asked.decoder_seconds)
    if "export" in wanted:
        export.write(run, asked.model)
    if "evaluate" in wanted:
        evaluate.evaluate(asked.model, asked.folder, asked.prompts, asked.seeds)
    if "companions" in wanted:
        companions.make(asked.model, asked.folder / "companions")


if __name__ == "__main__":
    torch.set_num_threads(max(torch.get_num_threads(), 1))
    main()
