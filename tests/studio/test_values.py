"""Values of the controls in, generations out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import (
    HiresFix,
    Img2Img,
    Inpainting,
    Options,
    Refiner,
    Txt2Img,
    Variation,
)
from cloudbrush.studio import parameters, values
from cloudbrush.studio.txt2img import hires_size
from cloudbrush.studio.values import IMG2IMG, TXT2IMG

PICTURE, MASK = "a" * 64, "b" * 64


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The paths of all fields of a model that are no models themselves."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        groups = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if groups:
            yield from leaves(groups[0], f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("task", values.MODELS)
def test_every_field_of_a_generation_has_a_control(task: str) -> None:
    reachable = {*values.FIELDS[task], *values.SETTING_PATHS}
    assert set(leaves(values.MODELS[task])) - reachable == {"task"}
    assert {*values.FIELDS[task], *values.SETTING_PATHS} <= set(values.LABELS)


def test_values_from_a_browser_become_a_generation() -> None:
    asked = values.generation(
        TXT2IMG, {"prompt": "a cat", "steps": 30.0, "width": 256, "cfg_scale": 7.5, "seed": -1}
    )
    assert asked == Txt2Img(prompt="a cat", steps=30, width=256, cfg_scale=7.5)


def test_an_emptied_field_takes_its_default() -> None:
    asked = values.generation(TXT2IMG, {"steps": None, "seed": None, "checkpoint": "", "overrides": []})
    assert asked == Txt2Img()


def test_a_group_counts_only_while_its_switch_is_on() -> None:
    given = {
        "hires.upscaler": "Lanczos",
        "hires.steps": 5.0,
        "hires.checkpoint": "",
        "refiner.checkpoint": "other",
        "refiner.switch_at": 0.5,
        "variation.seed": 3,
        "variation.strength": 0.1,
        "inpainting.mask_weight": 0.5,  # a setting of the other tab
        "fix_steps": True,
    }
    on = {"hires": True, "refiner": True, "variation": True}
    assert values.generation(TXT2IMG, {**given, "hires": False}) == Txt2Img()
    assert values.generation(TXT2IMG, {**given, **on}) == Txt2Img(
        hires=HiresFix(upscaler="Lanczos", steps=5),
        refiner=Refiner(checkpoint="other", switch_at=0.5),
        variation=Variation(seed=3, strength=0.1),
    )


def test_a_mask_counts_only_in_the_modes_that_have_one() -> None:
    given = {"image": PICTURE, "inpainting.mask": MASK, "inpainting.blur": 8.0, "inpainting.inverted": True}
    plain = Img2Img(image=PICTURE)
    masked = Img2Img(image=PICTURE, inpainting=Inpainting(mask=MASK, blur=8, inverted=True))
    assert values.generation(IMG2IMG, {**given, "mode": "img2img"}) == plain
    assert values.generation(IMG2IMG, {**given, "mode": "inpaint"}) == masked
    assert values.generation(IMG2IMG, {**given, "mode": "upload"}) == masked


def test_override_settings_go_before_settings() -> None:
    given = {"options.eta": 0.5, "options.quantize": False, "noise_source": "NV"}
    overrides = ["ENSD: 31337", "RNG: CPU", "Quantized timesteps: True"]
    asked = values.generation(TXT2IMG, {**given, "overrides": overrides})
    assert asked.options == Options(eta=0.5, eta_noise_seed_delta=31337, quantize=True)
    assert asked.noise_source == "CPU"


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"width": 333}, "width", "Width: Input should be a multiple of 8"),
        ({"steps": 0}, "steps", "Sampling steps: Input should be greater than or equal to 1"),
        ({"seed": 1.5}, "seed", "Seed: "),
        ({"sampler": "Guess"}, "sampler", "Sampling method: there is no sampling method 'Guess'"),
        ({"hires": True, "hires.scale": 9}, "hires.scale", "Upscale by: Input should be less than"),
        ({"refiner": True}, "refiner.checkpoint", "Refiner's checkpoint: nothing is chosen"),
        ({"options.eta": 2}, "options.eta", "Eta for k-diffusion samplers: "),
        ({"overrides": ["Eta: 2"]}, "overrides", "Override settings: Input should be less than"),
        ({"overrides": ["Etta: 1"]}, "overrides", "Override settings: there is no setting 'Etta'"),
    ],
)
def test_a_wrong_value_is_named_as_its_label(given: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        values.generation(TXT2IMG, given)
    assert wrong.value.field == field
    assert wrong.value.detail.startswith(words)


def test_a_missing_picture_is_refused_and_does_not_count_when_a_page_is_restored() -> None:
    with pytest.raises(InvalidInput) as wrong:
        values.generation(IMG2IMG, {"mode": "img2img", "image": ""})
    assert wrong.value.field == "image"
    assert values.refused(IMG2IMG, {"mode": "inpaint"}) == set()
    assert values.refused(IMG2IMG, {"denoising_strength": 7, "inpainting.blur": -1, "mode": "upload"}) == {
        "denoising_strength",
        "inpainting.blur",
    }


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [("", "0/75"), ("a red circle", "3/75"), ("(a red circle:1.2)", "3/75"), ("cat " * 80, "80/150")],
)
def test_the_counter_counts_tokens_by_75(prompt: str, shown: str) -> None:
    assert shown in parameters.tokens(prompt)


@pytest.mark.parametrize(
    ("resize", "shown"),
    [((0, 0), "1024x768"), ((768, 0), "768x576"), ((0, 768), "1024x768"), ((640, 640), "640x640")],
)
def test_hires_fix_says_what_becomes_of_the_size(resize: tuple[int, int], shown: str) -> None:
    """As the WebUI: a scale unless a size is given, one side keeps the aspect (specification 1.1)."""
    assert f"from 512x384 to {shown}" in hires_size(True, 512, 384, 2.0, *resize)
    assert hires_size(False, 512, 384, 2.0, *resize) == ""
