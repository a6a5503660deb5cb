"""Noise levels and schedules, against the WebUI's numbers."""

from __future__ import annotations

import pytest

from cloudbrush.engine import schedules
from tests.golden.load import golden

GOLDEN = golden("schedules")
MODEL = schedules.ModelSigmas.sd()
CASES = [
    (name, int(steps), sigmas)
    for name, entry in GOLDEN["schedules"].items()
    if name in schedules.SCHEDULES
    for steps, sigmas in entry["by_steps"].items()
]


def test_the_models_own_noise_levels() -> None:
    assert MODEL.sigmas == pytest.approx(GOLDEN["model_sigmas"], rel=1e-6)
    assert (MODEL.min, MODEL.max) == pytest.approx((0.0291675, 14.6146421), rel=2e-5)  # as published, in fp32


@pytest.mark.parametrize(("timestep", "sigma"), GOLDEN["sigma_of_t"])
def test_sigma_of_a_fractional_timestep(timestep: float, sigma: float) -> None:
    assert MODEL.sigma(timestep) == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("timestep", [0, 0.25, 1, 13.25, 499.5, 998.9, 999])
def test_timestep_is_the_inverse(timestep: float) -> None:
    assert MODEL.timestep(MODEL.sigma(timestep)) == pytest.approx(timestep, abs=1e-6)


def test_timesteps_are_clamped_to_the_models() -> None:
    assert MODEL.timestep(0.01) == 0
    assert MODEL.timestep(20) == 999


@pytest.mark.parametrize(("name", "steps", "sigmas"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_schedules_equal_the_webui(name: str, steps: int, sigmas: list[float]) -> None:
    assert schedules.build(name, steps, MODEL) == pytest.approx(sigmas, rel=1e-6)


def test_steps_done_counts_whole_steps() -> None:
    sigmas = [10.0, 5.0, 1.0, 0.0]
    assert [schedules.steps_done(sigmas, sigma) for sigma in (10.0, 7.0, 5.0, 1.0, 0.0)] == [0, 0, 1, 2, 3]
