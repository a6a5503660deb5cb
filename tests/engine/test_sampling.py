"""How a pass samples: noise levels, where it begins, what each sampler is told (specification 3.1 to 3.7)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Options
from cloudbrush.domain.sampling import SAMPLERS, Sampler, find_sampler
from cloudbrush.engine import schedules
from cloudbrush.engine.brownian import BrownianPath
from cloudbrush.engine.noise import cpu_noise
from cloudbrush.engine.samplers import Walk
from cloudbrush.engine.sampling import Late, Plan
from cloudbrush.engine.sigmas import ModelSigmas

MODEL = ModelSigmas.sd()
SPAN = schedules.Span(MODEL)
SHAPE = (4, 8, 8)
SEED = 7


def named(name: str) -> Sampler:
    sampler = find_sampler(name)
    assert sampler is not None
    return sampler


def plan(
    name: str, steps: int = 20, schedule: str = "Automatic", late: Late | None = None, **options: Any
) -> Plan:
    return Plan.of(named(name), schedule, steps, MODEL, Options(**options), late)


def first_request(
    planned: Plan, image: torch.Tensor | None = None, share: float = 1.0
) -> tuple[torch.Tensor, float]:
    return next(planned.begin(cpu_noise(SEED, SHAPE), "CPU", SEED, image, share))


def run(planned: Plan, image: torch.Tensor | None = None) -> tuple[torch.Tensor, list[float]]:
    """The final latents with a denoiser that knows little, and the sigmas it was asked at."""
    sampling: Any = planned.begin(cpu_noise(SEED, SHAPE), "CPU", SEED, image)
    answer: Any = None
    asked: list[float] = []
    while True:
        try:
            x, sigma = sampling.send(answer)
        except StopIteration as end:
            return end.value, asked
        asked.append(sigma)
        denoised = (x / (1 + sigma**2)).tanh()
        answer = (denoised, denoised) if planned.algorithm.wants_negative else denoised


def calls(planned: Plan, image: torch.Tensor | None = None) -> int:
    """How many predictions a pass asks for."""
    return len(run(planned, image)[1])


def final(planned: Plan) -> torch.Tensor:
    return run(planned)[0]


@pytest.mark.parametrize(
    ("steps", "strength", "whole", "start"), [(20, 0.7, 28, 8), (15, 0.5, 30, 15), (20, 0.33, 60, 40)]
)
def test_hires_fix_takes_the_end_of_a_longer_schedule(
    steps: int, strength: float, whole: int, start: int
) -> None:
    """Specification 3.5, its examples: always as many steps as asked for."""
    planned = plan("Euler", schedule="Karras", late=Late.exactly(steps, strength))
    assert planned.sigmas == schedules.build("Karras", whole, SPAN)[start:]
    assert planned.steps == steps == calls(planned, torch.zeros(SHAPE))


@pytest.mark.parametrize(("strength", "last"), [(0.75, 15), (0.5, 10), (1.0, 19), (0.04, 0), (0.0, 0)])
def test_img2img_takes_its_share_and_one_step_more(strength: float, last: int) -> None:
    """Specification 3.5: t_enc = int(min(d, .999) N), sigmas from N - t_enc - 1 on."""
    planned = plan("Euler", schedule="Karras", late=Late.share(20, strength))
    assert planned.sigmas == schedules.build("Karras", 20, SPAN)[20 - last - 1 :]
    assert planned.steps == last + 1 == calls(planned, torch.zeros(SHAPE))


@pytest.mark.parametrize("name", ["DDIM", "PLMS", "UniPC"])
def test_samplers_that_count_timesteps_begin_at_the_one_they_leave_out(name: str) -> None:
    """Specification 3.5: x is noised at timesteps[t_enc], and timesteps[:t_enc] are run."""
    planned = plan(name, late=Late.share(20, 0.5))
    assert planned.timesteps == [50 * k + 1 for k in range(10)]
    assert planned.noised_at == MODEL.sigmas[501]
    assert plan(name, late=Late.exactly(20, 0.5)).timesteps == [25 * k + 1 for k in range(19)]


@pytest.mark.parametrize("name", ["DDIM", "DDIM CFG++", "PLMS", "UniPC"])
@pytest.mark.parametrize("strength", [0.0, 0.06, 0.11])
def test_a_strength_that_leaves_hardly_a_timestep_is_no_mishap(name: str, strength: float) -> None:
    planned = plan(name, late=Late.share(20, strength))
    assert len(planned.timesteps) == int(strength * 20)
    assert calls(planned, torch.zeros(SHAPE)) <= 2


def test_strength_0_exactly_is_the_image_itself() -> None:
    image = torch.randn(SHAPE)
    planned = plan("Euler", late=Late.exactly(20, 0.0))
    with pytest.raises(StopIteration) as ended:
        first_request(planned, image)
    assert torch.equal(ended.value.value, image)


def test_where_a_pass_begins() -> None:
    """Specification 3.2 and 3.5."""
    noise, image = cpu_noise(SEED, SHAPE)(), torch.randn(SHAPE)
    x, sigma = first_request(plan("Euler", schedule="Karras"))
    torch.testing.assert_close(x, noise * MODEL.max)
    assert sigma == pytest.approx(MODEL.max)
    x, _ = first_request(plan("Euler", schedule="Karras", sgm_noise_multiplier=True))
    torch.testing.assert_close(x, noise * math.sqrt(1 + MODEL.max**2))
    late = plan("Euler", schedule="Karras", late=Late.share(20, 0.5), extra_noise=0.25)
    x, sigma = first_request(late, image)
    torch.testing.assert_close(x, image + noise * sigma + noise * 0.25)
    x, _ = first_request(plan("Euler", late=Late.share(20, 0.5)), image, share=0.5)
    torch.testing.assert_close(x, image + noise * 0.5 * plan("Euler", late=Late.share(20, 0.5)).sigmas[0])


def test_where_a_pass_over_timesteps_begins() -> None:
    noise, image = cpu_noise(SEED, SHAPE)(), torch.randn(SHAPE)
    x, sigma = first_request(plan("DDIM", sgm_noise_multiplier=True))
    torch.testing.assert_close(x / math.sqrt(sigma**2 + 1), noise)  # plain, whatever the sigma
    x, sigma = first_request(plan("DDIM", late=Late.share(20, 0.5), extra_noise=0.25), image)
    bar = 1 / (MODEL.sigmas[501] ** 2 + 1)
    begun = math.sqrt(bar) * image + math.sqrt(1 - bar) * noise + 0.25 * math.sqrt(bar) * noise
    torch.testing.assert_close(x / math.sqrt(sigma**2 + 1), begun)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_the_penultimate_sigma_goes_for_some_samplers_and_for_all_when_asked(sampler: Sampler) -> None:
    """Specification 3.4: DPM2, DPM2 a and DPM++ 3M SDE; the WebUI gives timestep samplers one step more."""
    if plan(sampler.name).counts_timesteps:
        assert plan(sampler.name, discard_penultimate=True).timesteps == plan(sampler.name, 21).timesteps
        late = plan(sampler.name, late=Late.share(20, 0.5), discard_penultimate=True)
        assert late.noised_at == MODEL.sigmas[10 * (1000 // 21) + 1]
        return
    schedule = "Exponential"
    if sampler.name == "LCM":
        return
    whole = schedules.build(schedule, 21, SPAN)
    assert plan(sampler.name, schedule=schedule, discard_penultimate=True).sigmas == [*whole[:-2], 0.0]
    usual = [*whole[:-2], 0.0] if sampler.discards_penultimate else schedules.build(schedule, 20, SPAN)
    assert plan(sampler.name, schedule=schedule).sigmas == usual


@pytest.mark.parametrize(("steps", "evaluations"), [(20, 19), (30, 30), (50, 49)])
def test_ddim_asks_once_less_than_it_has_timesteps(steps: int, evaluations: int) -> None:
    """Specification 3.7."""
    assert calls(plan("DDIM", steps)) == evaluations


@pytest.mark.parametrize("steps", [1, 2])
def test_too_few_steps_for_unipc_are_refused_and_how_many_it_takes_is_told(steps: int) -> None:
    with pytest.raises(GenerationFailed, match=f"at least 3 steps, not {steps}") as refused:
        plan("UniPC", steps)
    assert (refused.value.field, refused.value.hint) == ("steps", "Choose 3 steps or more.")
    assert calls(plan("UniPC", 3)) == 4  # 1000 timesteps in strides of 333
    assert calls(plan("UniPC", late=Late.exactly(2, 0.5)), torch.zeros(SHAPE)) == 1


def test_quantization_gives_whole_timesteps_and_others_are_fractional() -> None:
    """Specification 3.2; of Karras' levels most lie between the model's."""
    fractional = plan("Euler", schedule="Karras")
    asked = [fractional.timestep(sigma) for sigma in fractional.sigmas[1:-2]]
    assert all(timestep % 1 for timestep in asked)
    whole = plan("Euler", schedule="Karras", quantize=True)
    assert [whole.timestep(sigma) for sigma in whole.sigmas[1:-2]] == [round(timestep) for timestep in asked]


CHURNED = {"Euler", "Heun", "DPM2"}
SCALED = {
    *CHURNED,
    *("DPM fast", "DPM2 a", "DPM++ 2S a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"),
}
ETA = {
    *("Euler a", "DPM2 a", "DPM++ 2S a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"),
    *("DPM fast", "DPM adaptive"),
}


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_churn_noise_scale_and_eta_reach_the_samplers_that_have_them(sampler: Sampler) -> None:
    """As the WebUI hands its settings to k-diffusion's functions; of DDIM it is another eta (3.7)."""
    plain = final(plan(sampler.name, 6))

    def changes(**options: Any) -> bool:
        return not torch.equal(plain, final(plan(sampler.name, 6, **options)))

    assert changes(sigma_churn=10.0) == (sampler.name in CHURNED)
    assert changes(sigma_churn=10.0, sigma_tmin=100.0) is False
    assert changes(eta=0.5) == (sampler.name in ETA)
    assert changes(eta_ddim=0.5) == (sampler.name in ("DDIM", "DDIM CFG++"))
    with_churn = {"sigma_churn": 10.0} if sampler.name in CHURNED else {}
    louder = not torch.equal(
        final(plan(sampler.name, 6, sigma_noise=1.2, **with_churn)),
        final(plan(sampler.name, 6, **with_churn)),
    )
    assert louder == (sampler.name in SCALED)


def test_a_brownian_path_spans_the_whole_schedule_also_in_a_late_pass() -> None:
    """Specification 3.1: t0 and t1 are the least positive and the greatest sigma of the full schedule."""
    late = plan("DPM++ 2M SDE", schedule="Karras", late=Late.exactly(6, 0.5))
    whole = schedules.build("Karras", 12, SPAN)
    path = BrownianPath("CPU", SEED, SHAPE, whole[-2], whole[0])
    sampling: Any = late.begin(cpu_noise(1, SHAPE), "CPU", SEED, torch.zeros(SHAPE))
    x, sigma = next(sampling)
    x_next, sigma_next = sampling.send(torch.zeros(SHAPE))
    h = math.log(sigma / sigma_next)  # of a prediction of zeros: x decays, and noise is added
    added = x_next - sigma_next / sigma * math.exp(-h) * x
    expected = path(sigma, sigma_next) * sigma_next * math.sqrt(-math.expm1(-2 * h))
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-5)


def test_dpm_fast_and_adaptive_go_by_the_models_own_ends() -> None:
    """Specification 3.4: they ignore the schedule; over an image they take its first and last sigma but 0."""
    for name in ("DPM fast", "DPM adaptive"):
        narrow = plan(name, schedule="Karras", sigma_min=0.5, sigma_max=5.0)
        x, sigma = first_request(narrow)
        assert sigma == pytest.approx(MODEL.max)
        torch.testing.assert_close(x, cpu_noise(SEED, SHAPE)() * 5.0)  # but begin with the schedule's noise
        late = plan(name, late=Late.share(20, 0.5))
        _, sigma = first_request(late, torch.zeros(SHAPE))
        assert sigma == pytest.approx(late.sigmas[0])


@pytest.mark.parametrize("name", ["DPM2", "DPM++ 2S a", "Heun", "DPM++ SDE", "Restart"])
def test_second_order_samplers_count_two_calls_a_step(name: str) -> None:
    assert plan(name).calls == 40
    assert plan(name, late=Late.exactly(6, 0.5)).calls == 12


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
def test_every_pair_of_sampler_and_schedule_ends_with_numbers(sampler: Sampler, schedule: str) -> None:
    for steps, late in itertools.product((3, 11), (None, Late.exactly(3, 0.4))):
        planned = plan(sampler.name, steps, schedule, late)
        image = None if late is None else torch.zeros(SHAPE)
        latents, asked = run(planned, image)
        assert latents.isfinite().all()
        assert min(asked, default=1.0) > 0


def test_walks_of_samplers() -> None:
    """Which follow a schedule and which do not (specification 3.4, 3.7)."""
    walks = {sampler.name: plan(sampler.name).algorithm.walk for sampler in SAMPLERS}
    assert {name for name, walk in walks.items() if walk is Walk.BROWNIAN} == {
        *("DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE")
    }
    assert {name for name, walk in walks.items() if walk is Walk.TIMESTEPS} == {
        *("DDIM", "DDIM CFG++", "PLMS", "UniPC")
    }
