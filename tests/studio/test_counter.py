"""The token counters of both prompt boxes."""

from __future__ import annotations

from cloudbrush.studio.parameters import tokens


def test_only_the_prompt_is_split_at_and() -> None:
    """Specification 1.1 and 2.2: the longest part counts; a negative prompt has but one."""
    assert "2/75" in tokens("a AND b c")
    assert "4/75" in tokens("a AND b c", negative=True)
    assert "1/75" in tokens("a <lora:b:1>", negative=True)
