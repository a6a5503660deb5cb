"""Refiners, noise with variations, and how far a run is (specification 3.1, 3.8)."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cloudbrush.domain.errors import UnknownModel
from cloudbrush.domain.generation import HiresFix, Options, Refiner, Variation
from cloudbrush.domain.sampling import find_sampler
from cloudbrush.engine import Engine, ModelFile, Models
from cloudbrush.engine.passes import Relay
from cloudbrush.engine.sampling import Plan
from cloudbrush.engine.sigmas import ModelSigmas
from tests.engine.listening import Listener, generation

SD = ModelSigmas.sd()


def plan(steps: int, sampler: str = "Euler", schedule: str = "Karras") -> Plan:
    return Plan.of(find_sampler(sampler), schedule, steps, SD)


def relay(switch_at: float, *, by_steps: bool = False) -> Relay:
    return Relay(SimpleNamespace(), switch_at, by_steps)


@pytest.mark.parametrize(
    ("sigma", "ratio"),
    [(14.6146421, 0.0), (SD.sigmas[799], 0.2), (SD.sigmas[199], 0.8), (0.0291675, 0.999), (1e-6, 0.999)],
)
def test_the_way_is_counted_in_timesteps_of_the_nearest_noise_level(sigma: float, ratio: float) -> None:
    assert relay(ratio).takes_over(plan(20), 0, sigma)
    assert not relay(ratio + 0.001).takes_over(plan(20), 0, sigma)


def test_or_in_evaluations() -> None:
    assert not relay(0.5, by_steps=True).takes_over(plan(20), 9, 0.0)
    assert relay(0.5, by_steps=True).takes_over(plan(20), 10, 14.6)
    heun = plan(20, "Heun")  # two evaluations a step
    assert not relay(0.5, by_steps=True).takes_over(heun, 19, 0.0)
    assert relay(0.5, by_steps=True).takes_over(heun, 20, 14.6)


def paint_with(engine: Engine, asked, *models) -> Listener:
    first, *others = models
    listener = Listener()
    engine.submit(asked, Models(first, checkpoints=tuple(others)), listener)
    listener.wait()
    return listener


def refined(switch_at: float, **fields) -> object:
    return generation(refiner=Refiner(checkpoint="other", switch_at=switch_at), steps=8, **fields)


def test_a_refiner_changes_the_end_of_the_way(engine: Engine, tiny: ModelFile, other: ModelFile) -> None:
    images = [
        paint_with(engine, refined(switch_at), tiny, other).pixels for switch_at in (0.01, 0.3, 0.8, 1.0)
    ]
    alone = paint_with(engine, generation(steps=8), tiny).pixels
    assert all((images[k] != images[k + 1]).any() for k in range(3))
    assert np.array_equal(images[3], alone)  # ratios end at 0.999


def test_a_refiner_that_paints_all_is_the_other_checkpoint(
    engine: Engine, tiny: ModelFile, other: ModelFile
) -> None:
    """By steps, at the least share, it takes over after the first evaluation of a hundred."""
    all_of_it = refined(0.01, options=Options(refiner_by_steps=True))
    mostly = paint_with(engine, all_of_it, tiny, other).pixels
    alone = paint_with(engine, generation(steps=8, checkpoint="other"), other).pixels
    first = paint_with(engine, generation(steps=8), tiny).pixels
    assert np.abs(mostly - alone).mean() < np.abs(mostly - first).mean()


def test_the_same_weights_under_another_name_refine_nothing(
    engine: Engine, tiny: ModelFile, tmp_path: Path
) -> None:
    """Another file, so it really takes over; equal weights, so nobody sees it."""
    path = tmp_path / "other.safetensors"
    shutil.copy(tiny.path, path)
    with path.open("r+b") as file:  # one letter of the metadata
        data = file.read()
        file.seek(data.index(b"cloudbrush.native_size") + len("cloudbrush.native_siz"))
        file.write(b"f")
    twin = ModelFile("other", path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert twin.sha256 != tiny.sha256
    both = paint_with(engine, refined(0.5), tiny, twin).pixels
    assert np.abs(both - paint_with(engine, generation(steps=8), tiny).pixels).max() <= 1


def test_with_hires_fix_it_refines_the_second_pass_unless_told(
    engine: Engine, tiny: ModelFile, other: ModelFile
) -> None:
    hires = HiresFix(scale=1.5, denoising_strength=0)  # the second pass samples nothing
    plain = paint_with(engine, generation(steps=8, hires=hires), tiny).pixels
    second = paint_with(engine, refined(0.5, hires=hires), tiny, other).pixels
    assert np.array_equal(plain, second)
    first = refined(0.5, hires=hires, options=Options(hires_refiner="first pass"))
    assert (paint_with(engine, first, tiny, other).pixels != plain).any()


def test_a_refiner_that_is_not_there_is_named(engine: Engine, tiny: ModelFile) -> None:
    error = _broken(engine, refined(0.5), tiny)
    assert isinstance(error, UnknownModel)
    assert error.field == "refiner.checkpoint"


def _broken(engine: Engine, asked, model: ModelFile) -> Exception:
    listener = Listener()
    engine.submit(asked, Models(model), listener)
    return listener.wait().error


def test_variations_keep_the_seed_and_count_their_own(paint) -> None:
    varied = generation(seed=5, batch_size=2, variation=Variation(seed=9, strength=0.4))
    (listener,) = paint(varied)
    assert [image.seed for image in listener.images] == [5, 5]
    assert ["Variation seed: 9," in i.infotext for i in listener.images] == [True, False]
    assert "Variation seed: 10, Variation seed strength: 0.4" in listener.images[1].infotext
    (second,) = paint(generation(seed=5, variation=Variation(seed=10, strength=0.4)))
    assert np.abs(listener.pixels[1] - second.pixels[0]).max() <= 1


def test_a_whole_variation_is_the_other_seeds_image(paint) -> None:
    (varied,), (other,) = (
        paint(generation(seed=5, sampler="Euler", variation=Variation(seed=9, strength=1))),
        paint(generation(seed=9, sampler="Euler")),
    )
    assert np.abs(varied.pixels - other.pixels).max() <= 1


def test_a_noise_resized_from_its_own_size_is_the_same(paint) -> None:
    (plain,), (same,), (wider,) = (
        paint(generation(width=128)),
        paint(generation(width=128, variation=Variation(from_width=128, from_height=64))),
        paint(generation(width=128, variation=Variation(from_width=64, from_height=64))),
    )
    assert np.array_equal(plain.pixels, same.pixels)
    assert (plain.pixels != wider.pixels).any()


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"options": Options(eta_noise_seed_delta=31337), "sampler": "Euler a"}, True),
        ({"options": Options(eta_noise_seed_delta=31337), "sampler": "Euler"}, False),
        ({"options": Options(eta=0.5), "sampler": "Euler a"}, True),
        ({"options": Options(eta_ddim=0.7), "sampler": "DDIM"}, True),
        ({"options": Options(sigma_churn=20), "sampler": "Euler"}, True),
        ({"options": Options(quantize=True), "sampler": "Euler"}, True),
        ({"options": Options(sigma_min=0.2), "schedule": "Karras"}, True),
        ({"options": Options(rho=3), "schedule": "Karras"}, True),
        ({"options": Options(rho=3), "schedule": "Uniform"}, False),
        ({"options": Options(discard_penultimate=True)}, True),
        ({"options": Options(sgm_noise_multiplier=True)}, True),
        ({"options": Options(noise_schedule="Zero Terminal SNR"), "schedule": "Karras"}, True),
        ({"options": Options(downcast_alphas=True)}, True),
        ({"options": Options(negative_minimum_sigma=3.0)}, True),
        ({"options": Options(skip_early_guidance=0.3)}, True),
        ({"options": Options(pad_prompts=True)}, False),  # both have one chunk
        ({"options": Options(pad_prompts=True), "prompt": "x " * 80, "negative_prompt": "y"}, True),
        ({"clip_skip": 2}, True),
        ({"options": Options(emphasis="No norm"), "prompt": "(a:1.5) cat"}, True),
        ({"options": Options(emphasis="No norm")}, False),
    ],
)
def test_an_option_changes_what_it_is_about(paint, fields: dict, changes: bool) -> None:
    without = {key: value for key, value in fields.items() if key not in ("options", "clip_skip")}
    (one,), (two,) = (
        paint(generation(**{"steps": 6, **without})),
        paint(generation(**{"steps": 6, **fields})),
    )
    assert bool((one.pixels != two.pixels).any()) is changes
