"""Prompts over time as the denoiser gets them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.engine.guidance import Guide
from tests.engine.listening import generation


class Spelled:
    """Stands for a text encoder: a text becomes its letters."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        self.asked.append(list(texts))
        return [torch.tensor([[float(ord(letter))] for letter in text]) for text in texts]


def read(vectors: torch.Tensor) -> str:
    return "".join(chr(int(value)) for value in vectors.flatten())


def test_each_call_gets_the_prompt_of_its_period() -> None:
    texts = Spelled()
    asked = generation(prompt="[a:b:2]", negative_prompt="[x|y]")
    guide = Guide.of(asked, texts.encode, evaluations=4, scale=7)
    assert [read(guide.at(call).positive[0][0]) for call in range(4)] == ["a", "a", "a", "b"]
    assert [read(guide.at(call).negative) for call in range(4)] == ["x", "x", "y", "x"]
    assert sorted(texts.asked) == [["a", "b"], ["x", "y", "x", "y"]]


def test_parts_come_with_their_weights_and_only_the_positive_prompt_has_them() -> None:
    guide = Guide.of(
        generation(prompt="a AND b:0.5", negative_prompt="x AND y"), Spelled().encode, evaluations=4, scale=7
    )
    at_first = guide.at(0)
    assert [(read(text), weight) for text, weight in at_first.positive] == [("a", 1.0), (" b", 0.5)]
    assert read(at_first.negative) == "x AND y"
    assert at_first.rows == 3


def test_a_prompt_of_too_many_parts_is_refused() -> None:
    """Each part is a row of every call; hundreds would keep everyone else waiting."""
    with pytest.raises(GenerationFailed, match="65 parts"):
        Guide.of(generation(prompt="a" + " AND a" * 64), Spelled().encode, evaluations=4, scale=7)


def test_comments_are_not_painted() -> None:
    guide = Guide.of(generation(prompt="a# b"), Spelled().encode, evaluations=4, scale=7)
    assert read(guide.at(0).positive[0][0]) == "a"


def test_tags_of_networks_are_cut_out_of_the_positive_prompt_only() -> None:
    asked = generation(prompt="a<lora:foo:1>b", negative_prompt="<lora:foo:1>")
    guide = Guide.of(asked, Spelled().encode, evaluations=4, scale=7)
    assert read(guide.at(0).positive[0][0]) == "ab"
    assert read(guide.at(0).negative) == "<lora:foo:1>"


def test_editing_changes_the_image(paint) -> None:
    plain, edited, joined = paint(
        generation(prompt="a cat", steps=6),
        generation(prompt="a [cat:dog:1]", steps=6),
        generation(prompt="a cat AND a dog :0.3", steps=6),
    )
    assert (plain.pixels != edited.pixels).any()
    assert (plain.pixels != joined.pixels).any()
    (same,) = paint(generation(prompt="a [cat:dog:6]", steps=6))
    assert abs(same.pixels - plain.pixels).max() <= 1
