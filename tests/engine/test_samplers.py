"""Every sampler, against the WebUI's own latents on an analytic denoiser."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cloudbrush.domain.sampling import SAMPLERS, SCHEDULES, find_sampler, resolve_schedule
from cloudbrush.engine import samplers, schedules
from cloudbrush.engine.noise import image_noise
from tests.golden.load import golden, golden_arrays

TOY = golden("samplers_toy")
MODEL = schedules.ModelSigmas.sd()
SHAPE = (4, 8, 8)
# Variants whose settings have no place in a generation yet.
LATER = ("ensd", "subseed", "resize", "discard", "hires")


def offered(record: dict[str, Any]) -> bool:
    names = {sampler.name for sampler in SAMPLERS} | {schedule.name for schedule in SCHEDULES}
    return {record["sampler_name"], record["scheduler"]} <= names and not any(
        word in record["id"] for word in LATER
    )


def toy_denoiser(x: torch.Tensor, sigma: float) -> torch.Tensor:
    constants = TOY["constants"]
    return constants["a"] * x / (1 + sigma**2) + constants["b"] * torch.tanh(x)


def run(sampling: samplers.Sampling) -> tuple[torch.Tensor, list[float]]:
    """The final latents, and the sigma of each denoiser call."""
    asked = []
    denoised = None
    while True:
        try:
            x, sigma = sampling.send(denoised) if denoised is not None else next(sampling)
        except StopIteration as done:
            return done.value, asked
        asked.append(sigma)
        denoised = toy_denoiser(x, sigma)


def options(record: dict[str, Any]) -> samplers.Options:
    overrides = record["overrides"]
    return samplers.Options(
        eta=record.get("eta", 1.0),
        churn=overrides.get("s_churn", 0.0),
        churn_from=overrides.get("s_tmin", 0.0),
        churn_until=overrides.get("s_tmax") or float("inf"),
        noise_scale=overrides.get("s_noise", 1.0),
    )


@pytest.mark.parametrize("record", [r for r in TOY["records"] if offered(r)], ids=lambda record: record["id"])
def test_latents_equal_the_webui(record: dict[str, Any]) -> None:
    sampler = find_sampler(record["sampler_name"])
    assert sampler is not None
    sigmas = schedules.build(resolve_schedule(sampler, record["scheduler"]), record["steps"], MODEL)
    images = []
    for seed in record["seeds"]:
        noise = image_noise(record["overrides"]["randn_source"], seed, SHAPE)
        sampling = samplers.SAMPLERS[sampler.name](noise() * sigmas[0], sigmas, noise, options(record))
        latents, asked = run(sampling)
        assert asked == pytest.approx(record["denoiser_sigmas"], rel=1e-6)
        images.append(latents)
    expected = torch.from_numpy(golden_arrays("samplers_toy")[record["id"].replace(" ", "_")])
    torch.testing.assert_close(torch.stack(images), expected, rtol=1e-4, atol=1e-5)
