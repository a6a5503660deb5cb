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


@pytest.mark.parametrize(
    "case", golden("infotext")["sampler_scheduler_mapping"], ids=lambda case: str(case[:2])
)
def test_recorded_names_mean_what_they_mean_in_the_webui(case: list) -> None:
    recorded, schedule, expected = case
    sampler, schedule = from_recorded(recorded, schedule)
    assert [sampler.name, schedule] == expected


@pytest.mark.parametrize(
    ("recorded", "schedule", "expected"),
    [
        ("Euler", "KARRAS", ("Euler", "Automatic")),  # a schedule goes by its label or its inner name
        ("Euler", "SGMUniform", ("Euler", "Automatic")),
        ("Euler", "sgm_uniform", ("Euler", "SGM Uniform")),
        ("Euler karras", None, ("Euler", "Karras")),
        (
            "Euler  Karras",
            None,
            ("DPM++ 2M", "Automatic"),
        ),  # one space is the separator, and that name is none
        ("DPM++ 2M SDE Heun Karras", None, ("DPM++ 2M SDE Heun", "Karras")),
        ("DPM++ 3M SDE Exponential", "Karras", ("DPM++ 3M SDE", "Automatic")),
        ("Karras", None, ("DPM++ 2M", "Automatic")),
        ("Euler a", "Uniform", ("Euler a", "Uniform")),
    ],
)
def test_old_and_unknown_names(recorded: str, schedule: str | None, expected: tuple[str, str]) -> None:
    """Specification 3.6, by the WebUI's rules."""
    sampler, found = from_recorded(recorded, schedule)
    assert (sampler.name, found) == expected


KARRAS, EXPONENTIAL = "Karras", "Exponential"
LISTED = [
    ("DPM++ 2M", "k_dpmpp_2m", KARRAS, ""),
    ("DPM++ SDE", "k_dpmpp_sde", KARRAS, "2"),
    ("DPM++ 2M SDE", "k_dpmpp_2m_sde", EXPONENTIAL, ""),
    ("DPM++ 2M SDE Heun", "k_dpmpp_2m_sde_heun", EXPONENTIAL, ""),
    ("DPM++ 2S a", "k_dpmpp_2s_a", KARRAS, "2"),
    ("DPM++ 3M SDE", "k_dpmpp_3m_sde", EXPONENTIAL, "D"),
    ("Euler a", "k_euler_a k_euler_ancestral", None, ""),
    ("Euler", "k_euler", None, ""),
    ("LMS", "k_lms", None, ""),
    ("Heun", "k_heun", None, "2"),
    ("DPM2", "k_dpm_2", KARRAS, "2D"),
    ("DPM2 a", "k_dpm_2_a", KARRAS, "2D"),
    ("DPM fast", "k_dpm_fast", None, ""),
    ("DPM adaptive", "k_dpm_ad", None, ""),
    ("Restart", "restart", KARRAS, "2"),
    ("DDIM", "ddim", None, ""),
    ("DDIM CFG++", "ddim_cfgpp", None, ""),
    ("PLMS", "plms", None, ""),
    ("UniPC", "unipc", None, ""),
    ("LCM", "k_lcm", None, ""),
]
FORGES = {"HeunPP2", "IPNDM", "IPNDM_V", "DEIS", "DDPM"}


def test_the_samplers_are_those_of_the_webui_in_its_order_and_forges() -> None:
    """Specification 3.6: aliases, what Automatic stands for, second order (2), discarding (D)."""
    webuis = [sampler for sampler in SAMPLERS if sampler.name not in FORGES]
    assert [
        (
            sampler.name,
            " ".join(sampler.aliases),
            sampler.own_schedule,
            "2" * sampler.second_order + "D" * sampler.discards_penultimate,
        )
        for sampler in webuis
    ] == LISTED
    assert {sampler.name for sampler in SAMPLERS} - {sampler.name for sampler in webuis} == FORGES


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
