"""What a page remembers."""

from __future__ import annotations

from cloudbrush.studio.draft import restored


def test_what_makes_sense_is_restored() -> None:
    draft = {"prompt": "a cat", "steps": 30, "endpoint": "pocket", "inference_id": "x", "width": 256}
    assert restored(draft) == draft


def test_what_no_longer_makes_sense_takes_its_default() -> None:
    draft = {"prompt": "a cat", "sampler": "Forgotten", "steps": 9999, "unknown": 1, "seed": None}
    assert restored(draft) == {"prompt": "a cat"}


def test_a_first_visit_restores_nothing() -> None:
    assert restored(None) == restored({}) == {}
