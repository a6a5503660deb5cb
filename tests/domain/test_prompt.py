"""The prompt language, against the WebUI's own parse and for any text at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain.prompt import (
    NetworkTag,
    Part,
    Segment,
    cut_network_tags,
    parse_attention,
    split_parts,
    strip_comments,
)
from tests.golden.load import golden

PROMPTS = golden("prompts")["prompts"]
SYNTAX = st.text(alphabet="()[]\\:.|1203aB -+AND<>,#\n", max_size=60)


# One prompt the WebUI fails on; see test_a_weight_that_is_no_number_stays_text.
PARSED = [case for case in PROMPTS if "error" not in case["attention"]]


@pytest.mark.parametrize("case", PARSED, ids=lambda case: repr(case["prompt"]))
def test_attention_equals_the_webui(case: dict) -> None:
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


@pytest.mark.parametrize("case", PROMPTS, ids=lambda case: repr(case["prompt"]))
def test_parts_equal_the_webui(case: dict) -> None:
    expected = [(case["multicond"]["prompts"][i], weight) for i, weight in case["multicond"]["indexes"]]
    assert [(part.text, part.weight) for part in split_parts(case["prompt"])] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a AND b", [Part("a"), Part(" b")]),
        ("a ANDY b", [Part("a ANDY b")]),
        ("(a AND b)", [Part("(a"), Part(" b)")]),
        ("a :-0.5 AND b:+2.", [Part("a", -0.5), Part(" b", 2.0)]),
        ("AND", [Part(""), Part("")]),
        ("a:1:2", [Part("a:1", 2.0)]),
        ("a:1e3", [Part("a:1e3")]),
    ],
)
def test_parts_as_specified(prompt: str, expected: list[Part]) -> None:
    assert split_parts(prompt) == expected


@pytest.mark.parametrize("case", PROMPTS, ids=lambda case: repr(case["prompt"]))
def test_network_tags_equal_the_webui(case: dict) -> None:
    text, tags = cut_network_tags(case["prompt"])
    assert text == case["extra_networks"]["prompt"]
    for kind, found in case["extra_networks"]["nets"].items():
        ours = [tag for tag in tags if tag.kind == kind]
        assert [list(tag.arguments) for tag in ours] == [tag["positional"] for tag in found]
        assert [dict(tag.named) for tag in ours] == [tag["named"] for tag in found]


@pytest.mark.parametrize(
    ("prompt", "text", "tags"),
    [
        ("<lora:a:0.5:te=1>x<lyco:b>", "x", [("lora", ("a", "0.5"), (("te", "1"),)), ("lyco", ("b",), ())]),
        ("<lora:>x>", "<lora:>x>", []),
        ("<lora:a", "<lora:a", []),
        ("<b>a</b>", "<b>a</b>", []),
        ("<a:<lora:b>", "", [("a", ("<lora", "b"), ())]),
    ],
)
def test_network_tags_as_specified(prompt: str, text: str, tags: list) -> None:
    assert cut_network_tags(prompt) == (text, [NetworkTag(*tag) for tag in tags])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("a # b\nc", "a \nc"),
        ("# b\nc", "\nc"),
        ("a\n#b\nc", "a\nc"),
        ("a#", "a\n"),
        ("#", "\n"),
    ],
)
def test_comments_go(text: str, expected: str) -> None:
    assert strip_comments(text) == expected


@given(st.one_of(st.text(max_size=60), SYNTAX))
def test_any_text_goes_through_the_whole_language(text: str) -> None:
    without, _ = cut_network_tags(strip_comments(text))
    assert split_parts(without)
    assert "#" not in strip_comments(text)


@pytest.mark.parametrize(
    "unit",
    ["(", "(a", "([a", "(a)", " ", ":", ": ", "(:1", "BREAK ", "\\", "((a:9999999)", "[a|b", "<a:", "<", ">"],
)
def test_attention_takes_time_by_length_only(unit: str) -> None:
    """100 000 characters of any shape; a quadratic parser would run into the test's time limit."""
    assert parse_attention(unit * (100_000 // len(unit)))


@pytest.mark.parametrize("unit", ["<a:", "<", ">", "<a:b>", "AND ", "#", "\n#", ":1 ", ":", " ", "A"])
def test_the_rest_of_the_language_too(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    assert split_parts(text)
    cut_network_tags(strip_comments(text))
