"""Noise levels and schedules, against the WebUI's numbers."""

from __future__ import annotations

import itertools
import math

import pytest

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Options
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
    assert MODEL.timestep(MODEL.sigma(timestep)) == pytest.approx(timestep, abs=1e-4)  # float32


def test_timesteps_are_clamped_to_the_models() -> None:
    assert MODEL.timestep(0.01) == 0
    assert MODEL.timestep(20) == 999


@pytest.mark.parametrize(("name", "steps", "sigmas"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_schedules_equal_the_webui(name: str, steps: int, sigmas: list[float]) -> None:
    assert schedules.build(name, steps, SPAN) == pytest.approx(sigmas, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "second"),
    [("Align Your Steps", 6.315), ("Align Your Steps 11", 6.315), ("Align Your Steps GITS", 4.734)],
)
def test_schedules_found_by_search_are_others_for_sdxl(name: str, second: float) -> None:
    """Specification 3.4: the tables have 11 levels."""
    span = schedules.Span(ModelSigmas.of("Default", sdxl=True))
    assert schedules.build(name, 11, span)[:2] == [14.615, second]
    assert schedules.build(name, 11, SPAN)[1] != second
    halved = schedules.build(name, 21, span)  # every other one is half way between, in ln sigma
    assert halved[:3:2] == pytest.approx([14.615, second])
    assert halved[1] == pytest.approx(math.sqrt(14.615 * second))


def test_the_published_numbers_of_ten_steps() -> None:
    """Specification 3.4."""
    karras = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0]
    uniform = [14.6146, 7.8399, 4.6092, 2.9183, 1.9502, 1.3449, 0.9324, 0.6250, 0.3687, 0.0292, 0]
    sgm = [14.6146, 8.3072, 5.0924, 3.3251, 2.2797, 1.6156, 1.1629, 0.8319, 0.5712, 0.3437, 0]
    beta = [14.6146, 13.9278, 12.4910, 10.5976, 8.4424, 6.2014, 4.0462, 2.1528, 0.7160, 0.0292, 0]
    for name, sigmas in (("Karras", karras), ("Uniform", uniform), ("SGM Uniform", sgm), ("Beta", beta)):
        assert schedules.build(name, 10, SPAN) == pytest.approx(sigmas, abs=6e-5)


@pytest.mark.parametrize(("steps", "counted"), [(30, 31), (35, 36), (20, 20)])
def test_the_ddim_schedule_may_be_longer_than_asked_for(steps: int, counted: int) -> None:
    """Specification 3.4; it begins below the highest sigma."""
    sigmas = schedules.build("DDIM", steps, SPAN)
    assert len(sigmas) == counted + 1
    assert sigmas[0] < MODEL.max


@pytest.mark.parametrize(
    ("noise_schedule", "downcast", "lowest", "highest"),
    [
        ("Default", True, 0.03125, 14.609375),
        ("Zero Terminal SNR", False, 0.0291675, 4518.76),
        ("Default", False, 0.0291675, 14.6146421),
    ],
)
def test_noise_levels_under_other_rules(
    noise_schedule: str, downcast: bool, lowest: float, highest: float
) -> None:
    """Specification 3.2."""
    model = ModelSigmas.of(noise_schedule, downcast=downcast)
    assert (model.min, model.max) == pytest.approx((lowest, highest), rel=2e-5)


def test_options_make_the_span_and_an_empty_one_is_refused() -> None:
    asked = Options(sigma_min=0.1, sigma_max=10, rho=5, beta_alpha=0.7, beta_beta=0.8)
    assert schedules.Span.of(MODEL, asked) == schedules.Span(MODEL, 0.1, 10, 5, 0.7, 0.8)
    assert schedules.Span.of(MODEL, Options()) == SPAN
    for wrong, field in (({"sigma_min": 15.0}, "sigma_min"), ({"sigma_max": 0.02}, "sigma_max")):
        with pytest.raises(GenerationFailed) as refused:
            schedules.Span.of(MODEL, Options(**wrong))
        assert refused.value.field == f"options.{field}"


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
