"""A checkpoint of Stable Diffusion 1.5's size with random weights, and what diffusers needs to load it offline."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from cloudbrush.engine.models.keys import to_ldm

# Stable Diffusion 1.5's published configuration, where it differs from the modules' defaults.
UNET = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "eos_token_id": 49407,
    "bos_token_id": 49406,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "linspace",
}


def make(folder: Path) -> tuple[Path, Path]:
    """The checkpoint (fp16, SD1 single-file layout) and diffusers' folder of configurations; kept once made."""
    file, configs = folder / "sd15-random.safetensors", folder / "sd15-configs"
    torch.manual_seed(0)
    unet, vae, text = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE), CLIPTextModel(CLIPTextConfig(**TEXT))
    _write_configs(configs, unet, vae, text)
    if not file.exists():
        weights = to_ldm(unet.state_dict(), vae.state_dict(), text.state_dict(), (2, 2, 2, 2))
        draft = file.with_suffix(".draft")
        save_file({key: weight.half().contiguous() for key, weight in weights.items()}, draft)
        draft.replace(file)
    return file, configs


def _write_configs(
    folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel
) -> None:
    for name, part in (("unet", unet), ("vae", vae), ("scheduler", EulerDiscreteScheduler(**SCHEDULER))):
        part.save_config(folder / name)
    text.config.save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def _write_tokenizer(folder: Path) -> None:
    """A tokenizer of the true size that spells every word: prompts are 77 tokens whatever they say."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<unused{number}>" for number in range(49406 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
