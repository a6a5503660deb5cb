"""What a page remembers."""

from __future__ import annotations

from cloudbrush.studio import draft, values
from cloudbrush.studio.draft import restored


def test_every_value_of_both_forms_has_a_name_of_its_own() -> None:
    assert len(draft.NAMES) == len(set(draft.NAMES))
    for task, paths in values.FIELDS.items():
        assert {draft.name(task, path) for path in paths} <= set(draft.NAMES)
    assert set(values.SETTING_PATHS) <= set(draft.NAMES)


def test_what_makes_sense_is_restored() -> None:
    remembered = {
        "checkpoint": "pocket",
        "txt2img/prompt": "a cat",
        "txt2img/width": 256,
        "txt2img/hires": True,
        "txt2img/hires.steps": 10,
        "img2img/prompt": "a dog",
        "img2img/image": "0" * 64,
        "img2img/denoising_strength": 0.3,
        "options.eta": 0.5,
        "endpoint": "pocket",
        "inference_id": "x",
    }
    assert restored(remembered) == remembered


def test_what_no_longer_makes_sense_takes_its_default() -> None:
    remembered = {
        "txt2img/prompt": "a cat",
        "txt2img/sampler": "Forgotten",
        "txt2img/steps": 9999,
        "txt2img/hires": True,
        "txt2img/hires.scale": 100,
        "img2img/overrides": ["Forgotten: 1"],
        "options.eta": 7,
        "unknown": 1,
        "txt2img/seed": None,
    }
    assert restored(remembered) == {"txt2img/prompt": "a cat", "txt2img/hires": True}


def test_a_first_visit_restores_nothing() -> None:
    assert restored(None) == restored({}) == {}
