"""Embeddings found among token ids."""

from __future__ import annotations

from cloudbrush.domain.words import Word, Words, must_close


def test_the_longest_word_wins_at_any_position() -> None:
    short, long, other = Word("a", (5,), 1), Word("a b", (5, 6), 2), Word("c", (7, 7, 7), 1)
    words = Words([short, long, other, Word("nothing", (), 1)])
    assert list(words.split([1, 5, 6, 5, 7, 7, 7, 7, 7])) == [1, long, short, other, 7, 7]
    assert list(words.split([0, 5])) == [0, short]
    assert words.at([1, 5], 0) is None
    assert not list(words.split([]))


def test_of_equal_names_the_first_counts() -> None:
    first, second = Word("Cat", (3,), 1), Word("cat", (3,), 4)
    assert Words([first, second]).at([3], 0) == first


def test_a_word_is_never_split() -> None:
    assert not must_close(74, Word("x", (1,), 1))
    assert must_close(74, Word("x", (1,), 2))
    assert not must_close(0, Word("x", (1,), 75))
