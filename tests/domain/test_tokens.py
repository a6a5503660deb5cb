"""Token ids, chunks and counts, against the WebUI's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbrush.domain import tokens
from cloudbrush.domain.prompt import Segment
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
