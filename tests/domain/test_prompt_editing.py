"""Prompts over time, against the WebUI's schedules and for any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain.prompt_editing import Period, Timeline, period_at, schedule
from tests.golden.load import golden

TIMELINES = {
    "schedule_1": Timeline(1),
    "schedule_10": Timeline(10),
    "schedule_20": Timeline(20),
    "schedule_hires_10_10": Timeline(10, first_pass_steps=10),
    "schedule_hires_20_5": Timeline(5, first_pass_steps=20),
    "schedule_old_10": Timeline(10, old_rule=True),
}
SYNTAX = st.text(alphabet="()[]\\:.|123ab -+\n", max_size=60)


@pytest.mark.parametrize("timeline", TIMELINES)
@pytest.mark.parametrize("case", golden("prompts")["prompts"], ids=lambda case: repr(case["prompt"]))
def test_schedules_equal_the_webui(case: dict, timeline: str) -> None:
    assert [list(period) for period in schedule(case["prompt"], TIMELINES[timeline])] == case[timeline]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[a:b:0.5]", [(5, "a"), (10, "b")]),
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:+.25e1]", [(10, "a")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[:a:3]", [(3, ""), (10, "a")]),
        ("[a:[b:c:7]:3]", [(3, "a"), (7, "b"), (10, "c")]),
        ("[a:b]", [(10, "[a:b]")]),
        ("[a:b:c:0.5]", [(10, "[a:b:c:0.5]")]),
        ("[a:b:99%]", [(10, "[a:b:99%]")]),
        ("[[a:b:5]", [(5, "[a"), (10, "[b")]),
        ("[x:(y]:5]", [(10, "[x:(y]:5]")]),
        ("[a:b:5] | c", [(10, "[a:b:5] | c")]),
        ("[a:b:5] \\", [(10, "[a:b:5] \\")]),
        ("[a\\:b:c:5]", [(5, "a\\:b"), (10, "c")]),
        ("[(a:b:c):d:5]", [(10, "[(a:b:c):d:5]")]),
    ],
)
def test_the_grammar(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert schedule(prompt, Timeline(10)) == [Period(*period) for period in expected]


def test_a_hires_pass_goes_on_where_the_first_one_ended() -> None:
    after_twenty = Timeline(10, first_pass_steps=20)
    assert schedule("[a:b:0.5]", after_twenty) == [Period(10, "b")]
    assert schedule("[a:b:1.5]", after_twenty) == [Period(5, "a"), Period(10, "b")]
    assert schedule("[a:b:23]", after_twenty) == [Period(3, "a"), Period(10, "b")]


def test_the_change_comes_one_call_late() -> None:
    """`[a:b:5]` uses a for six calls, and `[a|b]` reads a, a, b, a, b (specification 2.2)."""
    change, alternation = schedule("[a:b:5]", Timeline(10)), schedule("[a|b]", Timeline(10))
    assert "".join(change[period_at(change, call)].text for call in range(10)) == "aaaaaabbbb"
    assert "".join(alternation[period_at(alternation, call)].text for call in range(6)) == "aababa"
    # Calls beyond the last step, which DPM adaptive may ask for, find no period and get the first.
    assert [change[period_at(change, call)].text for call in (10, 11, 99)] == ["b", "a", "a"]


@given(
    st.one_of(st.text(max_size=60), SYNTAX), st.integers(1, 30), st.none() | st.integers(1, 30), st.booleans()
)
def test_any_text_has_periods_in_order(text: str, steps: int, first_pass: int | None, old: bool) -> None:
    timeline = Timeline(steps, first_pass, old)
    ends = [period.until for period in schedule(text, timeline)]
    assert ends == sorted(set(ends))
    assert ends[0] >= 1
    assert ends[-1] == timeline.total


@given(st.text(alphabet=st.characters(exclude_characters="[]|\\"), max_size=60))
def test_text_without_square_brackets_stays_as_it_is(text: str) -> None:
    assert schedule(text, Timeline(10)) == [Period(10, text)]


@pytest.mark.parametrize(
    "unit",
    ["[", "(", "[a|", "[a:", "[a:b:1]", "[a|b]", "]", ")", ":", "|", " ", "\\", "([a:b:3]", "[(", "[]|"],
)
@pytest.mark.parametrize("closing", ["", "]", ")"])
def test_time_grows_with_length_only(unit: str, closing: str) -> None:
    """20 000 characters of any shape, deeply nested too; anything quadratic would run into the time limit."""
    count = 20_000 // (len(unit) + len(closing))
    assert schedule(unit * count + closing * count, Timeline(20))
