"""Noise levels and schedules, against the WebUI's numbers."""

from __future__ import annotations

import itertools
import math

import pytest

from cloudbrush.engine import schedules
from cloudbrush.engine.sigmas import ModelSigmas
from tests.golden.load import golden

GOLDEN = golden("schedules")
MODEL = ModelSigmas.sd()
SPAN = schedules.Span(MODEL)
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
    assert schedules.build(name, steps, SPAN) == pytest.approx(sigmas, rel=1e-6)


def test_a_span_may_be_narrower_than_the_model() -> None:
    span = schedules.Span(MODEL, lowest=0.1, highest=10, rho=5)
    for name in ("Karras", "Exponential", "Polyexponential", "Normal", "Beta", "KL Optimal"):
        sigmas = schedules.build(name, 10, span)
        assert (sigmas[0], sigmas[9 if name != "KL Optimal" else 10]) == pytest.approx((10, 0.1), rel=1e-4)
    assert schedules.build("Karras", 3, span)[1] == pytest.approx(((10**0.2 + 0.1**0.2) / 2) ** 5)


def test_the_penultimate_sigma_may_be_left_out() -> None:
    whole = schedules.build("Karras", 11, SPAN)
    assert schedules.build("Karras", 10, SPAN, discard_penultimate=True) == [*whole[:-2], 0.0]


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 11, 32, 33, 150])
def test_every_schedule_goes_down(name: str, steps: int) -> None:
    sigmas = schedules.build(name, steps, SPAN)
    assert all(high > low for high, low in itertools.pairwise(sigmas))
    assert all(math.isfinite(sigma) for sigma in sigmas)
    assert len(sigmas) >= steps + 1


def test_steps_done_counts_whole_steps() -> None:
    sigmas = [10.0, 5.0, 1.0, 0.0]
    assert [schedules.steps_done(sigmas, sigma) for sigma in (10.0, 7.0, 5.0, 1.0, 0.0)] == [0, 0, 1, 2, 3]
