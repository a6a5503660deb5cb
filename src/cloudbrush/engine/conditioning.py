"""Prompts as the denoiser reads them: text-encoder output of weighted 75-token chunks (specification 2.4)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cloudbrush.domain import tokens
from cloudbrush.domain.tokens import Chunk
from cloudbrush.engine.models.checkpoint import Checkpoint

_KEPT_BYTES = 256 * 2**20  # of results; one chunk takes 230 kB at SD1's width
_ROWS = 16  # chunks the text encoder gets at once


def _go_on() -> None:
    """The check that never objects."""


class TextEncoding:
    """A checkpoint's text encoder with the results it gave lately; any thread may ask."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()  # (texts, tokens, width) each

    def encode(self, texts: Sequence[str], check: Callable[[], None] = _go_on) -> list[Tensor]:
        """One (77 * chunks, width) float32 tensor per text, all with as many chunks as the longest needs.

        The texts are variants of one prompt: emphasis restores the mean over all of them. `check` is called
        before each piece of work and may raise to end it.
        """
        distinct = tuple(dict.fromkeys(texts))
        key = tuple(texts)
        with self._lock:
            encoded = self._kept.get(key)
            if encoded is not None:
                self._kept.move_to_end(key)
        if encoded is None:
            encoded = self._encode(distinct, [key.count(text) for text in distinct], check)
            self._keep(key, encoded)
        by_text = dict(zip(distinct, encoded, strict=True))
        return [by_text[text] for text in texts]

    def _keep(self, key: tuple[str, ...], encoded: Tensor) -> None:
        with self._lock:
            self._kept[key] = encoded
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)

    @torch.inference_mode()
    def _encode(self, texts: tuple[str, ...], times: list[int], check: Callable[[], None]) -> Tensor:
        """All texts, (texts, tokens, width); `times` is how often each of them counts for the mean."""
        device = self._checkpoint.placement.device
        prompts = [tokens.tokenize(text).chunks for text in texts]
        (empty,) = tokens.tokenize("").chunks
        count = max(len(chunks) for chunks in prompts)
        counted = torch.tensor(times, dtype=torch.float32, device=device)
        columns = []
        for index in range(count):
            chunks = [prompt[index] if index < len(prompt) else empty for prompt in prompts]
            multipliers = torch.tensor([chunk.multipliers for chunk in chunks], device=device)
            columns.append(emphasise(self._hidden(chunks, check), multipliers, counted))
        return torch.cat(columns, dim=1)

    def _hidden(self, chunks: list[Chunk], check: Callable[[], None]) -> Tensor:
        """The text encoder's output for chunks, (chunks, 77, width)."""
        device = self._checkpoint.placement.device
        ids = torch.tensor([chunk.tokens for chunk in chunks], device=device)
        parts = []
        for part in torch.split(ids, _ROWS):
            check()
            parts.append(self._checkpoint.text_encoder(input_ids=part).last_hidden_state)
        return torch.cat(parts)


def emphasise(hidden: Tensor, multipliers: Tensor, times: Tensor) -> Tensor:
    """Each token's vector times its multiplier, then all brought back to the mean they had.

    hidden: (texts, 77, width); multipliers: (texts, 77); times: (texts,) how often each text counts for the
    mean. The WebUI's "Original" emphasis; where its mean would divide by zero, the weighted vectors stay.
    """
    weighted = hidden * multipliers[..., None]
    ratio = (hidden.mean(dim=(1, 2)) * times).sum() / (weighted.mean(dim=(1, 2)) * times).sum()
    return weighted * torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
