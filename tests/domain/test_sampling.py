"""Names of samplers and schedules, new and old."""

from __future__ import annotations

import pytest

from cloudbrush.domain.sampling import (
    SAMPLERS,
    find_sampler,
    find_schedule,
    from_recorded,
    resolve_schedule,
    schedule_label,
)
from tests.golden.load import golden

KNOWN = {sampler.name for sampler in SAMPLERS}


@pytest.mark.parametrize(
    "case", golden("infotext")["sampler_scheduler_mapping"], ids=lambda case: str(case[:2])
)
def test_recorded_names_mean_what_they_mean_in_the_webui(case: list) -> None:
    recorded, schedule, expected = case
    if expected[0] not in KNOWN:
        pytest.skip(f"{expected} is not offered yet")
    sampler, schedule = from_recorded(recorded, schedule)
    assert [sampler.name, schedule] == expected


@pytest.mark.parametrize("name", ["euler a", "k_euler_a", "K_EULER_ANCESTRAL", "Euler a"])
def test_samplers_answer_to_their_aliases_in_any_case(name: str) -> None:
    found = find_sampler(name)
    assert found is not None
    assert found.name == "Euler a"


def test_unknown_names_are_not_found() -> None:
    assert find_sampler("nope") is None
    assert find_schedule("nope") is None


@pytest.mark.parametrize(
    ("sampler", "schedule", "used", "label"),
    [
        ("DPM++ 2M", "Automatic", "Karras", "Karras"),
        ("Euler a", "Automatic", "Uniform", "Automatic"),
        ("Euler", "Karras", "Karras", "Karras"),
    ],
)
def test_automatic_is_the_samplers_own_schedule(sampler: str, schedule: str, used: str, label: str) -> None:
    found = find_sampler(sampler)
    assert found is not None
    assert resolve_schedule(found, schedule) == used
    assert schedule_label(found, schedule) == label
