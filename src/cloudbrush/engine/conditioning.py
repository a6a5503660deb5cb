"""Prompts as the denoiser reads them: text-encoder output of weighted 75-token chunks (specification 2.4)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from cloudbrush.domain import tokens
from cloudbrush.domain.tokens import Chunk
from cloudbrush.engine.models.checkpoint import Checkpoint

_KEPT = 128  # results; a prompt of one chunk takes 230 kB at SD1's width


class TextEncoding:
    """A checkpoint's text encoder with the results it gave lately; any thread may ask."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], list[Tensor]] = OrderedDict()

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """One (77 * chunks, width) float32 tensor per text, all with as many chunks as the longest needs.

        The texts are variants of one prompt: emphasis restores the mean over all of them.
        """
        key = tuple(texts)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        result = self._encode(key)
        with self._lock:
            self._kept[key] = result
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return result

    def _encode(self, texts: tuple[str, ...]) -> list[Tensor]:
        distinct = {text: tokens.tokenize(text).chunks for text in texts}
        (empty,) = tokens.tokenize("").chunks
        count = max(len(chunks) for chunks in distinct.values())
        times = torch.tensor([texts.count(text) for text in distinct], dtype=torch.float32)
        columns = [
            self._encode_column(
                [chunks[i] if i < len(chunks) else empty for chunks in distinct.values()], times
            )
            for i in range(count)
        ]
        encoded = dict(zip(distinct, torch.cat(columns, dim=1), strict=True))
        return [encoded[text] for text in texts]

    @torch.inference_mode()
    def _encode_column(self, chunks: list[Chunk], times: Tensor) -> Tensor:
        device = self._checkpoint.placement.device
        ids = torch.tensor([chunk.tokens for chunk in chunks], device=device)
        multipliers = torch.tensor([chunk.multipliers for chunk in chunks], device=device)
        hidden: Tensor = self._checkpoint.text_encoder(input_ids=ids).last_hidden_state
        return emphasise(hidden, multipliers, times.to(device))


def emphasise(hidden: Tensor, multipliers: Tensor, times: Tensor) -> Tensor:
    """Each token's vector times its multiplier, then all brought back to the mean they had.

    hidden: (texts, 77, width); multipliers: (texts, 77); times: (texts,) how often each text counts for the
    mean. The WebUI's "Original" emphasis; where its mean would divide by zero, the weighted vectors stay.
    """
    weighted = hidden * multipliers[..., None]
    ratio = (hidden.mean(dim=(1, 2)) * times).sum() / (weighted.mean(dim=(1, 2)) * times).sum()
    return weighted * torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
