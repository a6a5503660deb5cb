"""Tiny checkpoints in the SD1 single-file layout, random but lively."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from cloudbrush.engine import Engine, ModelFile, Models
from cloudbrush.engine.models.keys import to_ldm
from tests.engine.listening import Listener

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other

CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
PLAIN = ("DownBlock2D", "UpBlock2D")


@dataclass(frozen=True)
class Shape:
    """Widths and depths of a made-up checkpoint."""

    widths: tuple[int, ...] = (8, 16)
    attends: tuple[bool, ...] = (False, True)
    layers: tuple[int, ...] = (1, 1)
    depth: int = 1
    vae_widths: tuple[int, ...] = (4, 4, 8, 8)
    vae_layers: int = 1
    vae_attention: bool = True
    text_width: int = 8
    text_layers: int = 2
    text_heads: int = 1
    heads: int = 2
    groups: int = 4
    linear: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    def modules(self, seed: int = 0) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
        torch.manual_seed(seed)
        kinds = [CROSS if attends else PLAIN for attends in self.attends]
        unet = UNet2DConditionModel(
            block_out_channels=self.widths,
            layers_per_block=self.layers,
            down_block_types=tuple(kind[0] for kind in kinds),
            up_block_types=tuple(kind[1] for kind in reversed(kinds)),
            transformer_layers_per_block=self.depth,
            cross_attention_dim=self.text_width,
            attention_head_dim=self.heads,
            norm_num_groups=self.groups,
            use_linear_projection=self.linear,
        )
        levels = len(self.vae_widths)
        vae = AutoencoderKL(
            block_out_channels=self.vae_widths,
            layers_per_block=self.vae_layers,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=self.groups,
            mid_block_add_attention=self.vae_attention,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=self.text_width,
                intermediate_size=2 * self.text_width,
                num_hidden_layers=self.text_layers,
                num_attention_heads=self.text_heads,
                projection_dim=self.text_width,
            )
        )
        for module in (unet, vae, text):
            jitter(module)
        return unet.eval(), vae.eval(), text.eval()

    def weights(self, seed: int = 0) -> dict[str, Tensor]:
        unet, vae, text = self.modules(seed)
        return to_ldm(unet.state_dict(), vae.state_dict(), text.state_dict(), self.layers)

    def all_metadata(self) -> dict[str, str]:
        return {
            "cloudbrush.unet_heads": str(self.heads),
            "cloudbrush.unet_norm_groups": str(self.groups),
            "cloudbrush.vae_norm_groups": str(self.groups),
            "cloudbrush.text_heads": str(self.text_heads),
            "cloudbrush.native_size": "64",
            **self.metadata,
        }


def jitter(module: nn.Module) -> None:
    """Default-initialised norms are all ones and zeros, which hides many a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))


def save(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> ModelFile:
    save_file(weights, path, metadata=metadata)
    return ModelFile(path.stem, path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A checkpoint of the default shape."""
    return save(
        tmp_path_factory.mktemp("models") / "tiny.safetensors", Shape().weights(), Shape().all_metadata()
    )


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A checkpoint of the same shape with other weights."""
    return save(
        tmp_path_factory.mktemp("other") / "other.safetensors", Shape().weights(7), Shape().all_metadata()
    )


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One engine for all tests; that they do not disturb each other is part of what is tested."""
    engine = Engine(device="cpu")
    yield engine
    engine.close()


@pytest.fixture
def paint(engine: Engine, tiny: ModelFile) -> Any:
    """Paint generations all at once; their listeners, in order, when all have ended."""

    def paint(*generations: Any, model: ModelFile = tiny) -> list[Listener]:
        listeners = [Listener() for _ in generations]
        for generation, listener in zip(generations, listeners, strict=True):
            engine.submit(generation, Models(model), listener)
        for listener in listeners:
            listener.wait()
        return listeners

    return paint
