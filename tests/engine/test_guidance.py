"""Prompts over time as the denoiser gets them (specification 2.2, 3.3)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.prompt_editing import Timeline
from cloudbrush.engine.guidance import MOST_PARTS, Condition, Guidance, Guide, Skipping, rescaled
from tests.engine.listening import generation

CHUNK = 3  # letters; stands for 77 tokens
SIZE = (64, 64)


class Spelled:
    """Stands for a text encoder: a text becomes its letters, in chunks that dots fill."""

    def __init__(self, filling: str | None = None) -> None:
        self.asked: list[list[str]] = []
        self.filling = None if filling is None else spelled(filling)

    def __call__(self, texts: list[str], *, size: tuple[int, int], negative: bool) -> list[Condition]:
        assert size == SIZE
        self.asked.append([f"-{text}" if negative else text for text in texts])
        length = max(1, max(-(-len(text) // CHUNK) for text in texts)) * CHUNK
        return [Condition(spelled(text.ljust(length, "."))) for text in texts]


def spelled(text: str) -> torch.Tensor:
    return torch.tensor([[float(ord(letter))] for letter in text])


def read(condition: Condition | None) -> str:
    assert condition is not None
    return "".join(chr(int(value)) for value in condition.vectors.flatten())


def guide(
    prompt: str, negative: str = "", steps: int = 4, reader: Spelled | None = None, **how: Any
) -> Guide:
    return Guide.of(prompt, negative, reader or Spelled(), Timeline(steps), 7.0, size=SIZE, **how)


def positive(made: Guide, evaluation: int = 0) -> list[tuple[str, float]]:
    return [(read(condition), weight) for condition, weight in made.at(evaluation, 1.0).positive]


def test_each_call_gets_the_prompt_of_its_period() -> None:
    reader = Spelled()
    made = guide("[a:b:2]", "[x|y]", reader=reader)
    assert [positive(made, call)[0][0] for call in range(4)] == ["a..", "a..", "a..", "b.."]
    assert [read(made.at(call, 1.0).negative) for call in range(4)] == ["x..", "x..", "y..", "x.."]
    assert sorted(reader.asked) == [["-x", "-y", "-x", "-y"], ["a", "b"]]


def test_parts_come_with_their_weights_and_only_the_positive_prompt_has_them() -> None:
    made = guide("a AND b:0.5 AND c :-1", "x AND y")
    assert positive(made) == [("a..", 1.0), (" b.", 0.5), (" c.", -1.0)]
    assert read(made.at(0, 1.0).negative) == "x AND y.."
    assert made.at(0, 1.0).rows == 4


def test_parts_change_each_in_its_own_time() -> None:
    made = guide("[a:b:1] AND c[|d:3]")
    assert [positive(made, call)[0][0] for call in range(4)] == ["a..", "a..", "b..", "b.."]


def test_a_prompt_of_too_many_parts_is_refused() -> None:
    """Each part is a row of every call; hundreds would keep everyone else waiting."""
    assert len(positive(guide("a" + " AND a" * (MOST_PARTS - 1)))) == MOST_PARTS
    with pytest.raises(GenerationFailed, match="65 parts") as refused:
        guide("a" + " AND a" * MOST_PARTS)
    assert refused.value.field == "prompt"


def test_comments_are_not_painted() -> None:
    reader = Spelled()
    guide("a# b", "c# d", reader=reader)
    assert sorted(reader.asked) == [["-c\n"], ["a"]]


def test_tags_of_networks_are_cut_out_of_the_positive_prompt_only() -> None:
    made = guide("a<lora:foo:1>b", "<lora:foo:1>")
    assert positive(made) == [("ab.", 1.0)]
    assert read(made.at(0, 1.0).negative) == "<lora:foo:1>"


def conditions(made: Guide) -> list[str]:
    return [read(condition) for condition in made.at(0, 1.0).conditions]


def test_shorter_parts_repeat_their_last_vector_and_sides_keep_their_lengths() -> None:
    """Specification 2.4: prompt and negative prompt of different lengths run in calls of their own."""
    assert conditions(guide("ab AND cdef", "x")) == ["ab....", " cdef.", "x.."]


def test_the_shorter_side_may_be_filled_with_empty_chunks() -> None:
    """Pad conds: with the encoding of an empty prompt."""
    filled = Spelled(filling="000")
    assert conditions(guide("abcd", "x", reader=filled)) == ["abcd..", "x..000"]
    assert conditions(guide("a", "wxyz", reader=filled)) == ["a..000", "wxyz.."]
    assert conditions(guide("a AND bcde", "x", reader=filled)) == ["a.....", " bcde.", "x..000"]


@pytest.mark.parametrize("filling", [None, "000"])
def test_the_negative_prompt_may_be_stretched_or_cut_to_the_prompt(filling: str | None) -> None:
    """Pad conds v0, which goes before Pad conds: by its last vector, or by losing its end."""
    reader = Spelled(filling)
    assert conditions(guide("abcd", "xyz", reader=reader, fit_negative=True)) == ["abcd..", "xyzzzz"]
    assert conditions(guide("a", "uvwxyz", reader=reader, fit_negative=True)) == ["a..", "uvw"]


@pytest.mark.parametrize(
    ("skipping", "skipped"),
    [
        (Skipping(), ""),
        (Skipping(minimum_sigma=3.0), "5 7"),  # odd evaluations below it
        (Skipping(minimum_sigma=3.0, all_steps=True), "5 6 7"),
        (Skipping(all_steps=True), ""),
        (Skipping(early=0.25), "0 1 2"),  # index over total, of 8
        (Skipping(early=0.25, evaluations=4), "0 1"),
        (Skipping(early=1.0), "0 1 2 3 4 5 6 7"),
        (Skipping(minimum_sigma=3.0, early=0.125), "0 1 5 7"),
    ],
)
def test_when_the_negative_prompt_is_left_out(skipping: Skipping, skipped: str) -> None:
    """Specification 3.3: NGMS and Skip Early CFG; sigmas here are 7, 6 ... 0."""
    made = guide("a", "x", steps=8, skipping=skipping)
    found = [call for call in range(8) if made.at(call, 7.0 - call).negative is None]
    assert " ".join(map(str, found)) == skipped


def test_guidance_adds_weighted_differences() -> None:
    """x0 = U + sum of w s (C - U); without the negative prompt C0 stands in for U and s is 1."""
    one = Condition(torch.zeros(1, 1))
    parts = ((one, 0.5), (one, -1.0))
    c, d, u = (torch.tensor([value]) for value in (3.0, 5.0, 2.0))
    with_negative = Guidance(parts, one, 4.0)
    assert with_negative.combine([c, d, u]).item() == 2 + 0.5 * 4 * (3 - 2) - 1 * 4 * (5 - 2)
    assert with_negative.base([c, d, u]).item() == 2
    without = Guidance(parts, None, 4.0)
    assert without.combine([c, d]).item() == 3 + 0.5 * 0 - 1 * (5 - 3)
    assert without.base([c, d]).item() == 3


def test_rescaling_gives_the_spread_of_the_positive_prediction() -> None:
    guided, plain = torch.randn(4, 8, 8) * 5, torch.randn(4, 8, 8) * 2
    assert rescaled(guided, plain, 1.0).std().item() == pytest.approx(plain.std().item(), rel=1e-5)
    assert torch.equal(rescaled(guided, plain, 0.0), guided)
    torch.testing.assert_close(
        rescaled(guided, plain, 0.7), 0.7 * (guided * plain.std() / guided.std()) + 0.3 * guided
    )


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
