"""Every sampler, against the WebUI's own latents on an analytic denoiser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Options
from cloudbrush.domain.sampling import SAMPLERS as OFFERED
from cloudbrush.domain.sampling import find_sampler
from cloudbrush.engine.hires import Target, enlarged_latents
from cloudbrush.engine.noise import Noise, Variation, cpu_noise, image_noise
from cloudbrush.engine.samplers import SAMPLERS, Walk
from cloudbrush.engine.samplers.ddim import ddim_timesteps
from cloudbrush.engine.samplers.lcm import consistent
from cloudbrush.engine.sampling import Late, Plan
from cloudbrush.engine.sigmas import ModelSigmas
from tests.golden.load import golden, golden_arrays

TOY = golden("samplers_toy")
CONSTANTS = TOY["constants"]
MODEL = ModelSigmas.sd()
SHAPE = (4, 8, 8)

Denoise = Callable[[torch.Tensor, float], torch.Tensor]


def toy(x: torch.Tensor, sigma: float, suffix: str = "") -> torch.Tensor:
    return CONSTANTS["a" + suffix] * x / (1 + sigma**2) + CONSTANTS["b" + suffix] * torch.tanh(x)


def at_integer_timesteps(x: torch.Tensor, sigma: float, suffix: str = "") -> torch.Tensor:
    """The toy as the peer asked it for timestep samplers: eps of the nearest whole timestep."""
    whole = MODEL.sigmas[int(MODEL.timestep(sigma) + 0.5)]
    there = x / math.sqrt(sigma**2 + 1) * math.sqrt(whole**2 + 1)
    return x - sigma * (there - toy(there, whole, suffix)) / whole


def run(
    plan: Plan, noise: Noise, source: str, seed: int, image: torch.Tensor | None = None
) -> tuple[torch.Tensor, list[float]]:
    """The final latents, and the sigma of each denoiser call."""
    sampling: Any = plan.begin(noise, source, seed, image)
    denoise = at_integer_timesteps if plan.algorithm.walk is Walk.TIMESTEPS else toy
    asked: list[float] = []
    answer = None
    while True:
        try:
            x, sigma = sampling.send(answer)
        except StopIteration as done:
            return done.value, asked
        asked.append(sigma)
        answer = denoise(x, sigma)
        if plan.algorithm.wants_negative:
            answer = (answer, denoise(x, sigma, "_uncond"))


def options(record: dict[str, Any]) -> Options:
    overrides = record["overrides"]
    return Options(
        eta=record.get("eta", 1.0),
        sigma_churn=overrides.get("s_churn", 0.0),
        sigma_tmin=overrides.get("s_tmin", 0.0),
        sigma_tmax=overrides.get("s_tmax", 0.0),
        sigma_noise=overrides.get("s_noise", 1.0),
        discard_penultimate=overrides.get("always_discard_next_to_last_sigma", False),
    )


def plan_of(record: dict[str, Any]) -> Plan:
    sampler = find_sampler(record["sampler_name"])
    assert sampler is not None
    return Plan.of(sampler, record["scheduler"], record["steps"], MODEL, options(record))


def one_noise(record: dict[str, Any], seed: int) -> Noise:
    """The draws of one image of a record."""
    variation = resized_from = None
    if "subseed" in record:
        variation = Variation(record["subseed"], record["subseed_strength"])
    if "seed_resize_from_h" in record:
        resized_from = (record["seed_resize_from_h"] // 8, record["seed_resize_from_w"] // 8)
    overrides = record["overrides"]
    return image_noise(
        overrides["randn_source"],
        seed,
        SHAPE,
        variation=variation,
        resized_from=resized_from,
        seed_delta=overrides.get("eta_noise_seed_delta", 0),
    )


def noise_of(record: dict[str, Any]) -> Noise:
    """The draws of all images of a record, stacked."""
    images = [one_noise(record, seed) for seed in record["seeds"]]
    if record["sampler_name"] != "DDPM":
        return lambda: torch.stack([draw() for draw in images])
    # There, all draws but the first come from one generator that the last seed left behind.
    shared = cpu_noise((record["seeds"][-1] + 100_000) % 65_536, (len(images), *SHAPE))
    draws = itertools.chain([torch.stack([draw() for draw in images])], iter(shared, None))
    return lambda: next(draws)


def run_record(record: dict[str, Any]) -> tuple[torch.Tensor, list[float]]:
    plan, source = plan_of(record), record["overrides"]["randn_source"]
    if plan.algorithm.walk is not Walk.BROWNIAN:
        return run(plan, noise_of(record), source, 0)
    runs = [run(plan, image_noise(source, seed, SHAPE), source, seed) for seed in record["seeds"]]
    return torch.stack([latents for latents, _ in runs]), runs[0][1]


RECORDS = [record for record in TOY["records"] if not record.get("enable_hr")]
TWO_PASSES = [record for record in TOY["records"] if record.get("enable_hr")]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_latents_equal_the_webui(record: dict[str, Any]) -> None:
    if "error" in record:
        with pytest.raises(GenerationFailed) as refused:
            plan_of(record)
        assert refused.value.field == "steps"
        return
    latents, asked = run_record(record)
    assert len(asked) == record["n_calls"]
    if record["sampler_name"] == "UniPC":  # asks between whole timesteps, which the peer rounds
        asked = [MODEL.sigmas[round(MODEL.timestep(sigma))] for sigma in asked]
    chosen = record["sampler_name"] == "DPM adaptive"  # where it asks next follows from what it was told
    assert asked == pytest.approx(record["denoiser_sigmas"], rel=1e-4 if chosen else 1e-5)
    expected = torch.from_numpy(golden_arrays("samplers_toy")[record["id"]])
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("record", TWO_PASSES, ids=lambda record: record["id"])
def test_latents_of_hires_fix_equal_the_webui(record: dict[str, Any]) -> None:
    """The first pass's latents enlarged, and a late beginning with new noise of the same seed."""
    (seed,) = record["seeds"]
    first, asked = run(plan_of(record), cpu_noise(seed, SHAPE), "CPU", seed)
    side = int(record["width"] * record["hr_scale"])
    larger = enlarged_latents(first, record["hr_upscaler"], Target(side, side), 8)
    sampler = find_sampler(record["sampler_name"])
    assert sampler is not None
    late = Late.exactly(record["steps"], record["denoising_strength"])
    plan = Plan.of(sampler, record["scheduler"], record["steps"], MODEL, late=late)
    second, asked_again = run(plan, cpu_noise(seed, (4, 16, 16)), "CPU", seed, larger)
    assert len(asked) + len(asked_again) == record["n_calls"]
    assert [*asked, *asked_again] == pytest.approx(record["denoiser_sigmas"], rel=1e-5)
    expected = torch.from_numpy(golden_arrays("samplers_toy")[record["id"]])
    torch.testing.assert_close(second, expected[0], rtol=1e-4, atol=1e-5)


def test_every_sampler_offered_has_an_algorithm_and_golden_numbers() -> None:
    assert {sampler.name for sampler in OFFERED} == set(SAMPLERS)
    assert set(SAMPLERS) == {record["sampler_name"] for record in RECORDS}


def test_a_distilled_model_is_only_asked_at_the_timesteps_it_knows() -> None:
    sampler = find_sampler("LCM")
    assert sampler is not None
    plan = Plan.of(sampler, "Karras", 7, MODEL)
    assert {plan.timestep(sigma) % 20 for sigma in plan.sigmas[:-1]} == {19}
    assert [plan.timestep(MODEL.sigmas[timestep]) for timestep in (0, 19, 500, 999)] == [19, 19, 499, 999]


@pytest.mark.parametrize("steps", [1, 5, 10, 20, 30])
def test_timesteps_equal_the_webui(steps: int) -> None:
    assert ddim_timesteps(steps, MODEL) == golden("schedules")["compvis_timesteps"][str(steps)]


def test_the_consistency_function_leaves_clean_images_alone() -> None:
    x, denoised = torch.tensor([1.0]), torch.tensor([3.0])
    assert consistent(x, denoised, 0.0).item() == 1.0
    assert consistent(x, denoised, 999.0).item() == pytest.approx(3.0, abs=1e-3)
    assert consistent(x, denoised, 0.05).item() == pytest.approx(3 * 0.5 / math.sqrt(0.5) + 0.5)
