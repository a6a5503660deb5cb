"""A text encoder of a checkpoint, read as its family reads it (specification 2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from cloudbrush.engine.models.families import TextPart


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A transformers module and what of it counts."""

    module: CLIPTextModel | CLIPTextModelWithProjection
    part: TextPart

    @classmethod
    def build(cls, config: Mapping[str, Any], part: TextPart) -> TextEncoder:
        """The encoder of a configuration, on torch's default device."""
        made = CLIPTextConfig(**config)
        module = CLIPTextModelWithProjection(made) if part.pooled else CLIPTextModel(made)
        return cls(module.eval(), part)

    @property
    def core(self) -> CLIPTextModel:
        """The encoder proper, without projection."""
        if isinstance(self.module, CLIPTextModelWithProjection):
            core: CLIPTextModel = self.module.text_model
            return core
        return self.module

    @property
    def token_embedding(self) -> nn.Module:
        """What makes vectors of token ids."""
        embedding: nn.Module = self.core.embeddings.token_embedding
        return embedding

    @property
    def width(self) -> int:
        """Numbers per token."""
        return int(self.core.config.hidden_size)

    def place_positions(self, device: torch.device) -> None:
        """Fill in the one buffer that no file has."""
        count = self.core.config.max_position_embeddings
        self.core.embeddings.position_ids = torch.arange(count, device=device)[None]

    def __call__(self, ids: Tensor, clip_skip: int = 1) -> tuple[Tensor, Tensor | None]:
        """(rows, 77) token ids -> (rows, 77, width) vectors, and (rows, width) the texts as a whole if read.

        `clip_skip` counts layers from the last, 1; it stops at the first, and decides only where the family
        leaves it open.
        """
        layer = self.part.layer or min(clip_skip, self.core.config.num_hidden_layers)
        if layer == 1 and self.part.normed and not self.part.pooled:
            last: Tensor = self.module(input_ids=ids).last_hidden_state
            return last, None
        output = self.module(input_ids=ids, output_hidden_states=True)
        vectors: Tensor = output.hidden_states[-layer]
        if self.part.normed:
            vectors = self.core.final_layer_norm(vectors)
        return vectors, output.text_embeds if self.part.pooled else None
