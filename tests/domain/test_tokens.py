"""Token ids, chunks and counts, against the WebUI's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbrush.domain import tokens
from cloudbrush.domain.prompt import Segment
from cloudbrush.domain.words import Word, Words
from tests.golden.load import golden


@pytest.mark.parametrize(
    "case", golden("tokens"), ids=lambda case: f"{case['emphasis']}-{case['prompt'][:30]!r}"
)
def test_chunks_equal_the_webui(case: dict) -> None:
    if case["emphasis"] == "None":
        tokenized = tokens.tokenize_segments([Segment(case["prompt"])])
    else:
        tokenized = tokens.tokenize(case["prompt"])
    assert [list(chunk.tokens) for chunk in tokenized.chunks] == [chunk["tokens"] for chunk in case["chunks"]]
    assert [list(chunk.multipliers) for chunk in tokenized.chunks] == [
        chunk["multipliers"] for chunk in case["chunks"]
    ]
    assert tokenized.count == case["token_count"]
    assert [tokenized.count, tokenized.limit] == case["ui_lengths"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", (0, 75)),
        ("a cat", (2, 75)),
        ("a BREAK b", (76, 150)),
        ("y " * 76, (76, 150)),
        ("<lora:a:1> a", (1, 75)),
        ("a AND b c", (2, 75)),
        ("[a:b c d:3]", (3, 75)),
        ("a # b", (1, 75)),
    ],
)
def test_the_count_the_studio_shows(prompt: str, expected: tuple[int, int]) -> None:
    assert tokens.count(prompt) == expected


def test_a_negative_prompt_counts_as_it_stands() -> None:
    assert tokens.count("a AND b c", negative=True) == (4, 75)
    assert tokens.count("a <lora:b:1>", negative=True) == (1, 75)  # specification 1.1: stripped in both boxes


@pytest.mark.parametrize(
    ("prompt", "steps", "expected"),
    [
        ("[a:b c d:0.5]", 20, (3, 75)),
        ("[a b c:d:30]", 20, (3, 75)),
        ("[b c d:a:0]", 20, (1, 75)),  # never read
        ("[a|b c|d]", 1, (1, 75)),  # the second option is never reached
        ("[a|b c|d]", 2, (2, 75)),
        ("(a:1.5), [b]", 20, (3, 75)),
        ("a AND " + "y " * 80, 20, (80, 150)),
    ],
)
def test_the_longest_of_all_readings_counts(prompt: str, steps: int, expected: tuple[int, int]) -> None:
    """Specification 1.1: the maximum over edited variants and AND parts."""
    assert tokens.count(prompt, steps=steps) == expected


def test_a_typed_marker_is_its_id_and_a_foreign_one_is_text() -> None:
    assert tokens.encode("a <|endoftext|> b") == [320, tokens.END, 321]
    assert tokens.START not in tokens.encode("<start_of_text>")
    assert tokens.END not in tokens.encode("<End_of_text>")


def test_a_comma_at_the_border_starts_the_next_chunk_and_is_no_place_to_cut() -> None:
    y, z, q = tokens.encode("y z q")
    text = "y " * 75 + ", " + "z " * 74 + "q q"
    first, second, third = tokens.tokenize(text).chunks
    assert first.tokens[1:76] == (y,) * 75
    assert second.tokens[1] == tokens.COMMA
    assert second.tokens[2:76] == (z,) * 74
    assert third.tokens[1:4] == (q, q, tokens.END)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200))
def test_any_text_has_whole_chunks(text: str) -> None:
    tokenized = tokens.tokenize(text)
    assert tokenized.chunks
    for chunk in tokenized.chunks:
        assert len(chunk.tokens) == len(chunk.multipliers) == tokens.CHUNK + 2
        assert chunk.tokens[0] == tokens.START
        assert chunk.tokens[-1] == tokens.END
    assert tokenized.count <= tokens.CHUNK * len(tokenized.chunks) <= tokenized.limit


@settings(deadline=None)
@given(st.text(alphabet="()[]|:<>AND #\\12.,ab lora", max_size=60), st.integers(1, 150), st.booleans())
def test_any_text_is_counted(text: str, steps: int, negative: bool) -> None:
    count, limit = tokens.count(text, steps=steps, negative=negative)
    assert 0 <= count <= limit
    assert limit % tokens.CHUNK == 0


def words(**vectors: int) -> Words:
    return Words(Word(name, tuple(tokens.encode(name)), count) for name, count in vectors.items())


def test_an_embedding_takes_slots_of_its_segments_weight() -> None:
    (chunk,) = tokens.tokenize("a (Toy cat:1.5)", words(toy=3)).chunks
    a, cat = tokens.encode("a cat")
    assert chunk.tokens[:6] == (tokens.START, a, 0, 0, 0, cat)
    assert chunk.multipliers[1:7] == (1.0, 1.5, 1.5, 1.5, 1.5, 1.0)
    assert chunk.words == ((2, "toy"),)


def test_an_embedding_that_does_not_fit_starts_the_next_chunk() -> None:
    full, next_one = tokens.tokenize("y " * 74 + "toy", words(toy=2)).chunks
    assert full.words == ()
    assert full.tokens[75] == tokens.END
    assert next_one.words == ((1, "toy"),)
    assert tokens.tokenize("y " * 73 + "toy", words(toy=2)).chunks[0].words == ((74, "toy"),)


def test_an_embedding_of_a_whole_chunk_has_it_for_itself() -> None:
    first, second, third = tokens.tokenize("y toy y", words(toy=75)).chunks
    assert second.words == ((1, "toy"),)
    assert second.tokens[1:76] == (0,) * 75
    assert third.tokens[1:3] == (tokens.encode("y")[0], tokens.END)
    assert first.tokens[1:3] == third.tokens[1:3]
