"""Network files for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cloudbrush.engine.events import ModelFile


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + 1000 * seed))


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> ModelFile:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return ModelFile(path.stem, path, hashlib.sha256(path.read_bytes()).hexdigest())


def kohya(prefix: str, path: str) -> str:
    return prefix + path.replace(".", "_")


def lora_for(module: nn.Module, prefix: str, rank: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """A LoRA of every linear layer and convolution, in kohya's names."""
    tensors: dict[str, Tensor] = {}
    for number, (path, layer) in enumerate(module.named_modules()):
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        out, inputs, *kernel = layer.weight.shape
        key = kohya(prefix, path)
        tensors[f"{key}.lora_up.weight"] = rand(out, rank, *[1 for _ in kernel], seed=seed + number)
        tensors[f"{key}.lora_down.weight"] = rand(rank, inputs, *kernel, seed=seed + number + 1)
        tensors[f"{key}.alpha"] = torch.tensor(1.0)
    return tensors
