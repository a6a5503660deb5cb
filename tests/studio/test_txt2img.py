"""The native region: values in, a generation out."""

from __future__ import annotations

import pytest

from cloudbrush.domain import infotext
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.studio import txt2img
from tests import builders
from tests.studio.fake_client import FakeClient


def test_the_form_has_every_field_a_person_chooses() -> None:
    without_a_control = {"task", "noise_source", "vae"}  # the API and the command line take them
    assert set(txt2img.FIELDS) == set(Txt2Img.model_fields) - without_a_control
    assert set(txt2img.LABELS) == set(txt2img.FIELDS)


def test_values_from_a_browser_become_a_generation() -> None:
    asked = txt2img.generation({"prompt": "a cat", "steps": 30.0, "width": 256, "cfg_scale": 7.5, "seed": -1})
    assert asked == Txt2Img(prompt="a cat", steps=30, width=256, cfg_scale=7.5)


def test_an_emptied_field_takes_its_default() -> None:
    asked = txt2img.generation({"steps": None, "seed": None, "checkpoint": ""})
    assert asked == Txt2Img()


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"width": 333}, "width", "Width: Input should be a multiple of 8"),
        ({"steps": 0}, "steps", "Sampling steps: Input should be greater than or equal to 1"),
        ({"seed": 1.5}, "seed", "Seed: "),
        ({"sampler": "Guess"}, "sampler", "Sampling method: there is no sampling method 'Guess'"),
    ],
)
def test_a_wrong_value_is_named_as_its_label(values: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        txt2img.generation(values)
    assert refused.value.field == field
    assert refused.value.detail.startswith(words)


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [("", "0/75"), ("a red circle", "3/75"), ("(a red circle:1.2)", "3/75"), ("cat " * 80, "80/150")],
)
def test_the_counter_counts_tokens_by_75(prompt: str, shown: str) -> None:
    assert shown in txt2img.tokens(prompt)


async def test_a_checkpoint_that_is_gone_gives_way_to_the_first(client: FakeClient) -> None:
    client.assets = [builders.checkpoint("one"), builders.checkpoint("two")]
    assert (await txt2img.checkpoints(client, "two"))[0]["value"] == "two"  # type: ignore[arg-type]
    assert (await txt2img.checkpoints(client, "three"))[0]["value"] == "one"  # type: ignore[arg-type]
    client.assets = []
    assert (await txt2img.checkpoints(client, "one"))[0]["value"] is None  # type: ignore[arg-type]


def test_the_seed_to_use_again_is_the_shown_images() -> None:
    written = infotext.write(builders.generation(seed=5), seed=6, model_hash="0" * 64)
    assert txt2img.painted_seed(written) == 6
    assert txt2img.painted_seed("") == -1
