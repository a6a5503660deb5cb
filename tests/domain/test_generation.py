"""What to paint: refused at the door, completed once, never changed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cloudbrush.domain.generation import Txt2Img
from tests import builders


def test_names_are_stored_in_their_own_spelling() -> None:
    asked = Txt2Img(sampler="k_euler_a", schedule="karras")
    assert (asked.sampler, asked.schedule) == ("Euler a", "Karras")


def test_a_sampler_that_needs_more_steps_says_how_many() -> None:
    with pytest.raises(ValidationError, match="UniPC needs at least 3 steps") as refused:
        Txt2Img(sampler="UniPC", steps=2)
    assert refused.value.errors()[0]["loc"] == ("steps",)
    assert Txt2Img(sampler="UniPC", steps=3).steps == 3


def test_completing_fills_only_what_was_open() -> None:
    completed = Txt2Img(width=64).completed(checkpoint="pocket", native_size=128, seed=7)
    assert (completed.checkpoint, completed.width, completed.height) == ("pocket", 64, 128)
    assert completed.seed == 7
    again = completed.completed(checkpoint="pocket", native_size=512, seed=8)
    assert again == completed


def test_a_generation_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        builders.generation().steps = 3  # type: ignore[misc]


def test_images_are_counted_over_all_batches() -> None:
    assert builders.generation(batch_count=3, batch_size=4).image_count == 12
