"""Prompts as the denoiser reads them: text-encoder output of weighted 75-token chunks (specification 2.4)."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from cloudbrush.domain import tokens
from cloudbrush.domain.tokens import Chunk
from cloudbrush.engine.extras import PLAIN, Extras
from cloudbrush.engine.guidance import Condition
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.models.families import Family
from cloudbrush.engine.networks.embedding import Embedding, Slot, inserted
from cloudbrush.engine.networks.lora import Network
from cloudbrush.engine.networks.patches import Patches

_KEPT_BYTES = 256 * 2**20  # of results; one chunk takes 230 kB at SD1's width
_ROWS = 16  # chunks a text encoder gets at once
ORIGINAL, NO_NORM, IGNORE, NO_EMPHASIS = "Original", "No norm", "Ignore", "None"  # as the WebUI names them


def _go_on() -> None:
    """The check that never objects."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the text encoders made of the variants of a prompt."""

    vectors: Mapping[str, Tensor]  # text -> (tokens, width)
    embeddings: tuple[Embedding, ...] = ()  # that stood in the texts
    pooled: Mapping[str, Tensor] = field(default_factory=dict)  # text -> (width,), where the family reads it

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(tensor.nbytes for tensor in (*self.vectors.values(), *self.pooled.values()))


class TextEncoding:
    """A checkpoint's text encoders with the results they gave lately; any thread may ask."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Encoded] = OrderedDict()
        self._encoder = threading.Lock()  # held while networks and embeddings of one run are in the encoders
        self._patches = [Patches(text.module, text.part.component) for text in checkpoint.text]

    @property
    def family(self) -> Family:
        """Of the checkpoint."""
        return self._checkpoint.family

    def has_place_for(self, network: Network) -> bool:
        """Whether a network acts on any of its layers; raises `ModelFileError` when its shapes do not fit."""
        bounds = [patches.bound(network) for patches in self._patches]  # all: each may raise
        return any(bound.layers for bound in bounds)

    def encode(
        self,
        texts: Sequence[str],
        check: Callable[[], None] = _go_on,
        extras: Extras = PLAIN,
        *,
        clip_skip: int = 1,
        emphasis: str = ORIGINAL,
    ) -> Encoded:
        """(77 * chunks, width) float32 vectors for each text, with as many chunks as the longest needs.

        The texts are variants of one prompt: emphasis restores the mean over all of them. `check` is called
        before each piece of work and may raise to end it. Raises `ModelFileError` for an embedding in them
        that is not as wide as the text encoders.
        """
        key = (tuple(texts), extras.text_key, clip_skip, emphasis)
        with self._lock:
            encoded = self._kept.get(key)
            if encoded is not None:
                self._kept.move_to_end(key)
        if encoded is None:
            work = _Work(check, self._readable(extras), clip_skip)
            encoded = self._encode(texts, emphasis, work)
            self._keep(key, encoded)
        return encoded

    def _keep(self, key: Hashable, encoded: Encoded) -> None:
        with self._lock:
            self._kept[key] = encoded
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)

    def _readable(self, extras: Extras) -> Extras:
        """To a refiner, as in the WebUI, the base model's embeddings are words like others."""
        if not self.family.scored:
            return extras
        own = tuple(embedding for embedding in extras.embeddings if embedding.widths == self._widths)
        return replace(extras, embeddings=own)

    @property
    def _widths(self) -> tuple[int, ...]:
        return tuple(text.width for text in self._checkpoint.text)

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str], emphasis: str, work: _Work) -> Encoded:
        device = self._checkpoint.placement.device
        times = Counter(texts)  # how often each counts for the mean
        words, attention = work.extras.words, emphasis != NO_EMPHASIS
        prompts = [tokens.tokenize(text, words, attention=attention).chunks for text in times]
        embeddings = self._embeddings(prompts, work.extras)
        (empty,) = tokens.tokenize("").chunks
        counted = torch.tensor(list(times.values()), dtype=torch.float32, device=device)
        columns: list[Tensor] = []
        pooled: Mapping[str, Tensor] = {}
        for index in range(max(map(len, prompts))):
            chunks = [prompt[index] if index < len(prompt) else empty for prompt in prompts]
            multipliers = torch.tensor([chunk.multipliers for chunk in chunks], device=device)
            parts: list[Tensor] = []
            for number in range(len(self._checkpoint.text)):
                hidden, whole = self._hidden(number, chunks, work)
                parts.append(emphasise(hidden, multipliers, counted, emphasis))
                if whole is not None and index == 0:
                    pooled = dict(zip(times, whole, strict=True))
            columns.append(torch.cat(parts, dim=-1))
        return Encoded(dict(zip(times, torch.cat(columns, dim=1), strict=True)), embeddings, pooled)

    def _embeddings(self, prompts: Sequence[Sequence[Chunk]], extras: Extras) -> tuple[Embedding, ...]:
        """The embeddings that stand in the chunks, in order; raises `ModelFileError` for one too wide."""
        names = dict.fromkeys(name for prompt in prompts for chunk in prompt for _, name in chunk.words)
        embeddings = tuple(extras.by_name[name] for name in names)
        for embedding in embeddings:
            embedding.check_widths(self._widths)
        return embeddings

    def _hidden(self, number: int, chunks: list[Chunk], work: _Work) -> tuple[Tensor, Tensor | None]:
        """What a text encoder makes of chunks: (chunks, 77, width), and (chunks, width) if that is read."""
        parts: list[Tensor] = []
        wholes: list[Tensor] = []
        for start in range(0, len(chunks), _ROWS):
            work.check()
            vectors, whole = self._output(number, chunks[start : start + _ROWS], work)
            parts.append(vectors)
            if whole is not None:
                wholes.append(whole)
        return torch.cat(parts), torch.cat(wholes) if wholes else None

    def _output(self, number: int, chunks: list[Chunk], work: _Work) -> tuple[Tensor, Tensor | None]:
        encoder, extras = self._checkpoint.text[number], work.extras
        rows = [chunk.padded_with(encoder.part.padding) for chunk in chunks]
        ids = torch.tensor(rows, device=self._checkpoint.placement.device)
        slots = [
            Slot(row, position, extras.by_name[name])
            for row, chunk in enumerate(chunks)
            for position, name in chunk.words
        ]
        with self._encoder:
            self._patches[number].set(extras.loras)
            with inserted(encoder.token_embedding, slots, encoder=number):
                return encoder(ids, work.clip_skip)


@dataclass(frozen=True, eq=False)
class _Work:
    """What is asked of the text encoders beside texts."""

    check: Callable[[], None]
    extras: Extras
    clip_skip: int


class Reader:
    """A run's way to the text encoders; collects the embeddings that its prompts really use.

    `padded`: whether the shorter of prompt and negative prompt is filled with empty chunks.
    """

    def __init__(
        self,
        encoding: TextEncoding,
        extras: Extras,
        check: Callable[[], None],
        *,
        clip_skip: int = 1,
        emphasis: str = ORIGINAL,
        padded: bool = False,
    ) -> None:
        self._encode = partial(
            encoding.encode, check=check, extras=extras, clip_skip=clip_skip, emphasis=emphasis
        )
        self._family = encoding.family
        self._padded = padded
        self._met: dict[str, Embedding] = {}

    def __call__(self, texts: list[str], *, size: tuple[int, int], negative: bool) -> list[Condition]:
        """The condition of each text for an image of (width, height) pixels; variants of one prompt.

        An SDXL model's negative prompt that is empty throughout counts as nothing at all: zeros.
        """
        encoded = self._encode(texts)
        self._met = {embedding.name: embedding for embedding in encoded.embeddings} | self._met
        numbers = self._family.numbers(size, negative=negative)
        conditions = {
            text: Condition(vectors, encoded.pooled.get(text), numbers)
            for text, vectors in encoded.vectors.items()
        }
        if negative and self._family.sized and not any(texts):
            conditions = {text: condition.zeroed() for text, condition in conditions.items()}
        return [conditions[text] for text in texts]

    @property
    def filling(self) -> Tensor | None:
        """(77, width) an empty prompt, if the shorter prompt is to be filled with it."""
        return self._encode([""]).vectors[""] if self._padded else None

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        """Those met so far; of the prompt read last first, as the WebUI lists them."""
        return tuple(self._met.values())


def emphasise(hidden: Tensor, multipliers: Tensor, times: Tensor, emphasis: str = ORIGINAL) -> Tensor:
    """Each token's vector times its multiplier, then ("Original") all brought back to the mean they had.

    hidden: (texts, 77, width); multipliers: (texts, 77); times: (texts,) how often each text counts for the
    mean. Where that mean would divide by zero, the weighted vectors stay.
    """
    if emphasis in (IGNORE, NO_EMPHASIS):
        return hidden
    weighted = hidden * multipliers[..., None]
    if emphasis == NO_NORM:
        return weighted
    ratio = (hidden.mean(dim=(1, 2)) * times).sum() / (weighted.mean(dim=(1, 2)) * times).sum()
    return weighted * torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
