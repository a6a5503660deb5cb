"""The prompt language, against the WebUI's own parse and for any text at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain.prompt import Segment, parse_attention
from tests.golden.load import golden

PROMPTS = golden("prompts")["prompts"]
SYNTAX = st.text(alphabet="()[]\\:.|1203aB -+AND<>,#\n", max_size=60)


@pytest.mark.parametrize("case", PROMPTS, ids=lambda case: repr(case["prompt"]))
def test_attention_equals_the_webui(case: dict) -> None:
    if "error" in case["attention"]:
        pytest.skip("the WebUI refuses this one; see test_a_weight_that_is_no_number_stays_text")
    parsed = [[segment.text, segment.weight] for segment in parse_attention(case["prompt"])]
    assert parsed == case["attention"]


def test_a_weight_that_is_no_number_stays_text() -> None:
    assert parse_attention("(a:1..5)") == [Segment("a:1..5", 1.1)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("(a, (b:1.3):1.2)", [("a, ", 1.2), ("b", 1.56)]),
        ("[x:1.2]", [("x:1.2", 1 / 1.1)]),
        ("(a:1.2", [("a:1.2", 1.1)]),
        ("(a:1.2:1.3)", [("a:1.2", 1.3)]),
        ("a)b]", [("a)b]", 1.0)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1)]),
    ],
)
def test_brackets_as_specified(prompt: str, expected: list[tuple[str, float]]) -> None:
    parsed = parse_attention(prompt)
    assert [segment.text for segment in parsed] == [text for text, _ in expected]
    assert [segment.weight for segment in parsed] == pytest.approx([weight for _, weight in expected])


def test_a_break_inside_a_weighted_bracket_is_a_word_of_negative_weight() -> None:
    assert Segment("BREAK", -1.2) in parse_attention("(a BREAK b:1.2)")
    assert not any(segment.is_break for segment in parse_attention("(a BREAK b:1.2)"))


@given(st.one_of(st.text(max_size=60), SYNTAX))
def test_any_text_parses_to_finite_weights(text: str) -> None:
    segments = parse_attention(text)
    assert segments
    assert all(math.isfinite(segment.weight) for segment in segments)


@given(st.text(alphabet=st.characters(exclude_characters="()[]\\:", exclude_categories=["Cs"]), max_size=60))
def test_text_without_syntax_is_one_segment(text: str) -> None:
    if "BREAK" not in text:
        assert parse_attention(text) == [Segment(text)]


@pytest.mark.parametrize(
    "unit", ["(", "(a", "([a", "(a)", " ", ":", ": ", "(:1", "BREAK ", "\\", "((a:9999999)", "[a|b"]
)
def test_time_grows_with_length_only(unit: str) -> None:
    """100 000 characters of any shape; a quadratic parser would run into the test's time limit."""
    assert parse_attention(unit * (100_000 // len(unit)))
