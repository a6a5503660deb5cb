"""Prompts as the denoiser reads them: text-encoder output of weighted 75-token chunks (specification 2.4)."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cloudbrush.domain import tokens
from cloudbrush.domain.tokens import Chunk
from cloudbrush.engine.extras import PLAIN, Extras
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.networks.embedding import Embedding, Slot, inserted
from cloudbrush.engine.networks.lora import Network
from cloudbrush.engine.networks.names import Component
from cloudbrush.engine.networks.patches import Patches

_KEPT_BYTES = 256 * 2**20  # of results; one chunk takes 230 kB at SD1's width
_ROWS = 16  # chunks the text encoder gets at once


def _go_on() -> None:
    """The check that never objects."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the text encoder made of the variants of a prompt."""

    vectors: Mapping[str, Tensor]  # text -> (tokens, width)
    embeddings: tuple[Embedding, ...]  # that stood in the texts

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(vectors.nbytes for vectors in self.vectors.values())


class TextEncoding:
    """A checkpoint's text encoder with the results it gave lately; any thread may ask."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Encoded] = OrderedDict()
        self._encoder = threading.Lock()  # held while networks and embeddings of one run are in the encoder
        self._patches = Patches(checkpoint.text_encoder, Component.TEXT)

    def has_place_for(self, network: Network) -> bool:
        """Whether a network acts on any of its layers; raises `ModelFileError` when its shapes do not fit."""
        return bool(self._patches.bound(network).layers)

    def encode(
        self, texts: Sequence[str], check: Callable[[], None] = _go_on, extras: Extras = PLAIN
    ) -> Encoded:
        """(77 * chunks, width) float32 vectors for each text, with as many chunks as the longest needs.

        The texts are variants of one prompt: emphasis restores the mean over all of them. `check` is called
        before each piece of work and may raise to end it. Raises `ModelFileError` for an embedding in them
        that is not as wide as the text encoder.
        """
        key = (tuple(texts), extras.text_key)
        with self._lock:
            encoded = self._kept.get(key)
            if encoded is not None:
                self._kept.move_to_end(key)
        if encoded is None:
            encoded = self._encode(texts, check, extras)
            self._keep(key, encoded)
        return encoded

    def _keep(self, key: Hashable, encoded: Encoded) -> None:
        with self._lock:
            self._kept[key] = encoded
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str], check: Callable[[], None], extras: Extras) -> Encoded:
        device = self._checkpoint.placement.device
        times = Counter(texts)  # how often each counts for the mean
        prompts = [tokens.tokenize(text, extras.words).chunks for text in times]
        embeddings = self._embeddings(prompts, extras)
        (empty,) = tokens.tokenize("").chunks
        counted = torch.tensor(list(times.values()), dtype=torch.float32, device=device)
        columns = []
        for index in range(max(map(len, prompts))):
            chunks = [prompt[index] if index < len(prompt) else empty for prompt in prompts]
            multipliers = torch.tensor([chunk.multipliers for chunk in chunks], device=device)
            columns.append(emphasise(self._hidden(chunks, check, extras), multipliers, counted))
        return Encoded(dict(zip(times, torch.cat(columns, dim=1), strict=True)), embeddings)

    def _embeddings(self, prompts: Sequence[Sequence[Chunk]], extras: Extras) -> tuple[Embedding, ...]:
        """The embeddings that stand in the chunks, in order; raises `ModelFileError` for one too wide."""
        names = dict.fromkeys(name for prompt in prompts for chunk in prompt for _, name in chunk.words)
        embeddings = tuple(extras.by_name[name] for name in names)
        for embedding in embeddings:
            embedding.check_widths((int(self._checkpoint.text_encoder.config.hidden_size),))
        return embeddings

    def _hidden(self, chunks: list[Chunk], check: Callable[[], None], extras: Extras) -> Tensor:
        """The text encoder's output for chunks, (chunks, 77, width)."""
        parts = []
        for start in range(0, len(chunks), _ROWS):
            check()
            parts.append(self._output(chunks[start : start + _ROWS], extras))
        return torch.cat(parts)

    def _output(self, chunks: list[Chunk], extras: Extras) -> Tensor:
        encoder = self._checkpoint.text_encoder
        ids = torch.tensor([chunk.tokens for chunk in chunks], device=self._checkpoint.placement.device)
        slots = [
            Slot(row, position, extras.by_name[name])
            for row, chunk in enumerate(chunks)
            for position, name in chunk.words
        ]
        with self._encoder:
            self._patches.set(extras.loras)
            with inserted(encoder.embeddings.token_embedding, slots):
                output: Tensor = encoder(input_ids=ids).last_hidden_state
        return output


class Reader:
    """A run's way to the text encoder; collects the embeddings that its prompts really use."""

    def __init__(self, encoding: TextEncoding, extras: Extras, check: Callable[[], None]) -> None:
        self._encode = partial(encoding.encode, check=check, extras=extras)
        self._met: dict[str, Embedding] = {}

    def __call__(self, texts: list[str]) -> list[Tensor]:
        """The vectors of each text, (tokens, width); texts are variants of one prompt."""
        encoded = self._encode(texts)
        self._met = {embedding.name: embedding for embedding in encoded.embeddings} | self._met
        return [encoded.vectors[text] for text in texts]

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        """Those met so far; of the prompt read last first, as the WebUI lists them."""
        return tuple(self._met.values())


def emphasise(hidden: Tensor, multipliers: Tensor, times: Tensor) -> Tensor:
    """Each token's vector times its multiplier, then all brought back to the mean they had.

    hidden: (texts, 77, width); multipliers: (texts, 77); times: (texts,) how often each text counts for the
    mean. The WebUI's "Original" emphasis; where its mean would divide by zero, the weighted vectors stay.
    """
    weighted = hidden * multipliers[..., None]
    ratio = (hidden.mean(dim=(1, 2)) * times).sum() / (weighted.mean(dim=(1, 2)) * times).sum()
    return weighted * torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
