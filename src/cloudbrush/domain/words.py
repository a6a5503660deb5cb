"""Embeddings in prompts: their names found among token ids (specification 2.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """An embedding as a prompt sees it."""

    name: str
    ids: tuple[int, ...]  # token ids of its name, so that case does not matter
    vectors: int  # token slots it takes


class Words:
    """The embeddings of a checkpoint; the longest name wins, at any position, and of equal ones the first."""

    def __init__(self, words: Iterable[Word] = ()) -> None:
        self._by_first: dict[int, list[Word]] = {}
        for word in words:
            if word.ids:
                self._by_first.setdefault(word.ids[0], []).append(word)
        for alike in self._by_first.values():
            alike.sort(key=lambda word: len(word.ids), reverse=True)

    def at(self, tokens: Sequence[int], position: int) -> Word | None:
        """The word whose name begins at `position` of a segment's tokens."""
        for word in self._by_first.get(tokens[position], ()):
            if tuple(tokens[position : position + len(word.ids)]) == word.ids:
                return word
        return None

    def split(self, tokens: Sequence[int]) -> Iterator[int | Word]:
        """The tokens of a segment, with words in the place of the tokens of their names."""
        position = 0
        while position < len(tokens):
            word = self.at(tokens, position)
            yield word or tokens[position]
            position += len(word.ids) if word else 1


def must_close(used: int, word: Word, size: int = 75) -> bool:
    """Whether a chunk with `used` of its slots taken is closed before a word: a word is never split."""
    return used + word.vectors > size
