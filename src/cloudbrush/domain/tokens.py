"""Prompt text as CLIP token ids, in the WebUI's 75-token chunks. No torch: the studio counts with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

import ftfy
from instant_clip_tokenizer import Tokenizer

from cloudbrush.domain.prompt import (
    Part,
    Segment,
    cut_network_tags,
    parse_attention,
    split_parts,
    strip_comments,
)
from cloudbrush.domain.prompt_editing import Timeline, schedule
from cloudbrush.domain.words import Word, Words, must_close

CHUNK = 75  # tokens of text in a chunk
START = 49406
END = 49407
COMMA = 267
COMMA_BACKTRACK = 20  # tokens a chunk may give up so that the next one begins after a comma

# CLIP's own markers become their ids when typed; the tokenizer would also take its own spelling of them.
_TYPED_MARKER = re.compile(r"(<\|(?:startoftext|endoftext)\|>)", re.IGNORECASE)
_FOREIGN_MARKER = re.compile(r"(?<=<start)(?=_of_text>)|(?<=<end)(?=_of_text>)", re.IGNORECASE)
_NO_WORDS = Words()
_MARKERS = {"<|startoftext|>": START, "<|endoftext|>": END}


@dataclass(frozen=True)
class Chunk:
    """What a text encoder takes at once: start, 75 tokens padded with end, end; one multiplier per token."""

    tokens: tuple[int, ...]
    multipliers: tuple[float, ...]
    words: tuple[tuple[int, str], ...] = ()  # embeddings: position among the tokens, name

    def padded_with(self, padding: int) -> tuple[int, ...]:
        """The tokens with another one behind the first end: what OpenCLIP's text encoders learned with."""
        end = self.tokens.index(END) + 1
        return (*self.tokens[:end], *[padding] * (len(self.tokens) - end))


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as chunks, and the number of tokens the WebUI's counter shows for it."""

    chunks: tuple[Chunk, ...]
    count: int

    @property
    def limit(self) -> int:
        """The tokens that fit into this many chunks."""
        return max(1, -(-self.count // CHUNK)) * CHUNK


def encode(text: str) -> list[int]:
    """Token ids of plain text, without start and end; equal to CLIP's own tokenizer after ftfy."""
    ids: list[int] = []
    for part in _TYPED_MARKER.split(_encodable(text)):
        marker = _MARKERS.get(part.lower())
        if marker is not None:
            ids.append(marker)
        else:
            for piece in _FOREIGN_MARKER.split(ftfy.fix_text(part)):
                ids.extend(_tokenizer().encode(piece))
    return ids


def tokenize(prompt: str, words: Words = _NO_WORDS, *, attention: bool = True) -> TokenizedPrompt:
    """The chunks of one prompt, with slots for the embeddings in it; at least one.

    `attention`: whether brackets and BREAK mean something; else all of it is text.
    """
    return tokenize_segments(parse_attention(prompt) if attention else [Segment(prompt)], words)


def tokenize_segments(segments: Iterable[Segment], words: Words = _NO_WORDS) -> TokenizedPrompt:
    """The chunks of weighted segments, each tokenised by itself."""
    chunks = _Chunks()
    for segment in segments:
        if segment.is_break:
            chunks.close()
            continue
        for token in words.split(encode(segment.text)):
            chunks.append(token, segment.weight)
    return chunks.finish()


def count(prompt: str, *, steps: int = 20, negative: bool = False) -> tuple[int, int]:
    """Tokens in a prompt and the number of them that fit into its chunks, as the WebUI shows "n/75".

    Of a prompt with several parts or readings, the longest counts; a negative prompt has but one part. Tags
    of networks do not count, not even in a negative prompt, which is painted with them as text.
    """
    text, _ = cut_network_tags(strip_comments(prompt).strip())
    parts = [Part(text)] if negative else split_parts(text)
    readings = {period.text for part in parts for period in schedule(part.text, Timeline(steps))}
    longest = max((tokenize(text) for text in readings), key=lambda tokenized: tokenized.count)
    return longest.count, longest.limit


@dataclass
class _Chunks:
    """Chunks under construction."""

    done: list[Chunk] = field(default_factory=list)
    count: int = 0
    _tokens: list[tuple[int, float]] = field(default_factory=list)
    _words: list[tuple[int, str]] = field(default_factory=list)  # stay when tokens move on, as in the WebUI
    _after_comma: int | None = None  # where the current chunk may be cut

    def append(self, token: int | Word, weight: float) -> None:
        if token == COMMA:
            self._after_comma = len(self._tokens) + 1
        if len(self._tokens) == CHUNK:
            self._start_next(with_clause=token != COMMA)
        if isinstance(token, int):
            self._tokens.append((token, weight))
            return
        if must_close(len(self._tokens), token, CHUNK):
            self.close()
        self._words.append((len(self._tokens) + 1, token.name))  # behind the start token
        self._tokens += [(0, weight)] * token.vectors

    def close(self) -> None:
        """End the current chunk; it counts as full."""
        self.count += CHUNK
        self._pad()

    def finish(self) -> TokenizedPrompt:
        if self._tokens or not self.done:
            self.count += len(self._tokens)
            self._pad()
        return TokenizedPrompt(tuple(self.done), self.count)

    def _start_next(self, with_clause: bool) -> None:
        """Close the full chunk; what follows its last comma moves on, when that is near enough."""
        cut = self._after_comma
        moved: list[tuple[int, float]] = []
        if with_clause and cut is not None and CHUNK - (cut - 1) <= COMMA_BACKTRACK:
            self._tokens, moved = self._tokens[:cut], self._tokens[cut:]
        self.close()
        self._tokens = moved

    def _pad(self) -> None:
        tokens, weights = zip(*self._padded(), strict=True)
        self.done.append(Chunk(tokens, weights, tuple(self._words)))
        self._tokens, self._words, self._after_comma = [], [], None

    def _padded(self) -> Iterator[tuple[int, float]]:
        yield START, 1.0
        yield from self._tokens
        yield from ((END, 1.0) for _ in range(CHUNK + 1 - len(self._tokens)))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()
