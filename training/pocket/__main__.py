"""`python -m training.pocket` makes the model; `python -m training.pocket evaluate` scores it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import autoencoder, companions, diffusion, evaluate, export, reading, warm
from .run import Run

MODEL = export.BUILTIN / "Stable-diffusion/pocket.safetensors"
STAGES = ("autoencoder", "text", "diffusion", "decoder", "export")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.pocket", description=__doc__)
    parser.add_argument(
        "stage",
        nargs="?",
        default="all",
        choices=("all", *STAGES, "evaluate", "companions"),
    )
    parser.add_argument("--folder", type=Path, default=Path("build/pocket"), help="checkpoints and pictures")
    parser.add_argument("--model", type=Path, default=MODEL, help="the file to write or to score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autoencoder-steps", type=int, default=3600)
    parser.add_argument(
        "--autoencoder-from", type=Path, help="an exported model whose autoencoder to train on"
    )
    parser.add_argument("--text-steps", type=int, default=900)
    parser.add_argument("--diffusion-steps", type=int, default=5700)
    parser.add_argument("--decoder-steps", type=int, default=600)
    parser.add_argument("--companions", type=Path, default=export.BUILTIN, help="where they go")
    parser.add_argument("--only", default="", choices=("", "lora", "hypernetwork", "embedding", "vae"))
    parser.add_argument("--prompts", type=int, default=400, help="held-out prompts to score")
    parser.add_argument("--seeds", type=int, default=3, help="pictures of each prompt")
    asked = parser.parse_args()
    run = Run(asked.folder, asked.seed)
    wanted = STAGES if asked.stage == "all" else (asked.stage,)
    if "autoencoder" in wanted:
        start = warm.codec(asked.autoencoder_from) if asked.autoencoder_from else None
        autoencoder.train(run, asked.autoencoder_steps, start=start)
    if "text" in wanted:
        reading.train(run, asked.text_steps)
    if "diffusion" in wanted:
        diffusion.train(run, asked.diffusion_steps)
    if "decoder" in wanted:
        autoencoder.polish(run, asked.decoder_steps)
    if "export" in wanted:
        export.write(run, asked.model)
    if "evaluate" in wanted:
        evaluate.evaluate(asked.model, asked.folder, asked.prompts, asked.seeds)
    if "companions" in wanted:
        companions.make(asked.model, asked.companions, run, asked.only)


if __name__ == "__main__":
    # oneDNN's products of matrices, twice as quick as MKL's on some processors
    torch.set_float32_matmul_precision("medium")
    main()
