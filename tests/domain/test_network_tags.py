"""What network tags ask for (specification 2.3)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.network_tags import HypernetworkTag, LoraTag, unknown_kind
from cloudbrush.domain.prompt import NetworkTag, cut_network_tags


def tag(text: str) -> NetworkTag:
    (found,) = cut_network_tags(text)[1]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<lora:a>", LoraTag("a", 1.0, 1.0, None)),
        ("<lora:a:0.5>", LoraTag("a", 0.5, 0.5, None)),  # the denoiser's is the text encoders'
        ("<lora:a:0.5:0.8>", LoraTag("a", 0.5, 0.8, None)),
        ("<lora:a:0.5:0.8:16>", LoraTag("a", 0.5, 0.8, 16)),
        ("<lora:a:te=0.5>", LoraTag("a", 0.5, 0.5, None)),
        ("<lora:a:0.3:te=0.5:unet=-1:dyn=8>", LoraTag("a", 0.5, -1.0, 8)),  # named ones override
        ("<lora:a:unet=0.2>", LoraTag("a", 1.0, 0.2, None)),
        ("<lyco:a b.c:1e-1>", LoraTag("a b.c", 0.1, 0.1, None)),
        ("<lora:a: 1 >", LoraTag("a", 1.0, 1.0, None)),
    ],
)
def test_a_lora_is_named_with_its_strengths(text: str, expected: LoraTag) -> None:
    assert LoraTag.read(tag(text)) == expected


@pytest.mark.parametrize(("text", "expected"), [("<hypernet:a>", 1.0), ("<hypernet:a:0.4>", 0.4)])
def test_a_hypernetwork_has_one_strength(text: str, expected: float) -> None:
    assert HypernetworkTag.read(tag(text)) == HypernetworkTag("a", expected)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<lora:a:x>", "te of <lora:a:x> is 'x'"),
        ("<lora:a:1:x>", "unet of"),
        ("<lora:a:1:1:1.5>", "whole number"),
        ("<lora:a:dyn=0>", "whole number"),
        ("<lora:a:nan>", "no number"),
        ("<lora:te=1>", "names no network"),
        ("<lora::1>", "names no network"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_field(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as refused:
        LoraTag.read(tag(text), "hires.prompt")
    assert refused.value.field == "hires.prompt"


def test_a_kind_nobody_knows_is_told_with_those_that_are() -> None:
    error = unknown_kind(tag("<ti:a:1>"))
    assert "<ti:a:1>" in str(error)
    assert error.hint is not None
    assert "<lora:name:1>" in error.hint


@given(st.text(alphabet="ab:=.1-te unetdyn", max_size=30))
def test_no_tag_breaks_the_reader(arguments: str) -> None:
    _, tags = cut_network_tags(f"<lora:{arguments}>")
    for found in tags:
        with suppress(InvalidInput):
            assert LoraTag.read(found).name
        with suppress(InvalidInput):
            assert HypernetworkTag.read(found).name
