"""The kinds of model files."""

from __future__ import annotations

from enum import StrEnum


class AssetKind(StrEnum):
    """What a model file is for; the values are the WebUI's words."""

    CHECKPOINT = "checkpoint"
    VAE = "vae"
    LORA = "lora"
    HYPERNETWORK = "hypernetwork"
    EMBEDDING = "embedding"
    UPSCALER = "upscaler"

    @property
    def phrase(self) -> str:
        """The kind as messages put it, with its article."""
        names = {AssetKind.VAE: "VAE", AssetKind.LORA: "LoRA"}
        return f"{'an' if self.value[0] in 'eu' else 'a'} {names.get(self, self.value)}"
