"""Samplers against numbers of k-diffusion's and the WebUI's own functions, as the specification lists them.

One image of 4x8x8 latents, seed 12345 from the CPU's generator, 20 steps (Karras; Exponential for the
multistep SDE solvers), eta 1; expected are the number of predictions, the first three values and the sum.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cloudbrush.domain.generation import Options
from cloudbrush.domain.sampling import find_sampler
from cloudbrush.engine.noise import cpu_noise
from cloudbrush.engine.samplers import Walk
from cloudbrush.engine.sampling import Plan
from cloudbrush.engine.sigmas import ModelSigmas

MODEL = ModelSigmas.sd()
SEED, SHAPE = 12345, (4, 8, 8)
PUBLISHED = [
    ("Euler", 20, 20, (-0.73377, 0.68183, -0.75703), 1.3250),
    ("Euler a", 20, 20, (0.29010, -0.66118, -0.61672), -2.5973),
    ("LMS", 20, 20, (-0.71806, 0.68359, -0.73690), 2.3083),
    ("Heun", 20, 39, (-0.72936, 0.68473, -0.75296), 2.0506),
    ("DPM2", 20, 39, (-0.74201, 0.68534, -0.76849), 1.5085),
    ("DPM2 a", 20, 39, (0.30429, -0.66253, -0.61730), -3.7308),
    ("DPM++ 2S a", 20, 39, (0.29280, -0.66779, -0.63722), -3.1185),
    ("DPM++ 2M", 20, 20, (-0.73043, 0.68502, -0.75383), 1.8880),
    ("DPM++ SDE", 20, 39, (-0.64708, 0.67870, 0.66422), -8.0384),
    ("DPM++ 2M SDE", 20, 20, (-0.66161, 0.67859, 0.68480), -8.2416),
    ("DPM++ 2M SDE Heun", 20, 20, (-0.66178, 0.67768, 0.68581), -8.4083),
    ("DPM++ 3M SDE", 20, 20, (-0.64958, 0.67911, 0.68538), -13.1426),
    ("DPM fast", 20, 20, (-0.65689, 0.60347, -0.73076), -9.7345),
    ("DPM adaptive", 20, 36, (0.24573, -0.61904, -0.70564), 9.1361),
    ("Restart", 20, 39, (-0.67940, 0.68404, -0.71719), 1.6882),
    ("Restart", 40, 79, (-0.73042, 0.72146, -0.69700), -12.2288),
    ("DDIM", 20, 19, (-8.26642, 0.92571, -21.93505), -82.1860),
    ("DDIM CFG++", 20, 19, (-6.37051, 0.36517, -18.61638), -62.5246),
    ("PLMS", 20, 20, (-8.13917, 0.86358, -21.29240), -81.1310),
    ("UniPC", 20, 20, (-11.11531, 1.02271, -27.10114), -104.1957),
]


def toy_denoised(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.tanh(x / math.sqrt(1 + sigma**2)) + 0.1 * torch.sin(3 * x) / (1 + sigma)


def toy_eps(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """For timestep samplers: eps at the x the model sees."""
    seen = x / math.sqrt(sigma**2 + 1)
    return 0.5 * torch.sin(seen) + 0.3 * seen / (1 + MODEL.timestep(sigma) / 500)


def final_latents(plan: Plan) -> tuple[torch.Tensor, int]:
    """Where a plan ends with the toy model, and how many predictions it took."""
    sampling: Any = plan.begin(cpu_noise(SEED, SHAPE), "CPU", SEED)
    answer = None
    calls = 0
    while True:
        try:
            x, sigma = sampling.send(answer)
        except StopIteration as done:
            return done.value, calls
        calls += 1
        if plan.algorithm.walk is not Walk.TIMESTEPS:
            answer = toy_denoised(x, sigma)
        elif plan.algorithm.wants_negative:
            answer = (x - sigma * toy_eps(x, sigma), x - sigma * 0.9 * toy_eps(x, sigma))
        else:
            answer = x - sigma * toy_eps(x, sigma)


@pytest.mark.parametrize(
    ("name", "steps", "calls", "first", "total"), PUBLISHED, ids=[f"{row[0]}-{row[1]}" for row in PUBLISHED]
)
def test_latents_equal_the_published(
    name: str, steps: int, calls: int, first: tuple[float, ...], total: float
) -> None:
    sampler = find_sampler(name)
    assert sampler is not None
    schedule = "Exponential" if "M SDE" in name else "Karras"
    plan = Plan.of(sampler, schedule, steps, MODEL)
    latents, counted = final_latents(plan)
    assert counted == calls
    scale = max(1.0, latents.abs().max().item())
    of_sum = 0.1 if plan.algorithm.walk is Walk.BROWNIAN else 0.02  # paths are rough to the last digit
    assert latents.flatten()[:3].tolist() == pytest.approx(first, abs=2e-3 * scale)
    assert latents.double().sum().item() == pytest.approx(total, abs=of_sum * scale)


def test_ddim_with_fresh_noise_equals_the_published() -> None:
    sampler = find_sampler("DDIM")
    assert sampler is not None
    latents, _ = final_latents(Plan.of(sampler, "Automatic", 20, MODEL, Options(eta_ddim=1.0)))
    assert latents.flatten()[:3].tolist() == pytest.approx((-7.77188, 0.62261, -19.62365), abs=2e-2)
    assert latents.double().sum().item() == pytest.approx(-28.5044, abs=0.3)
