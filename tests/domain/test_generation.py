"""What to paint: refused at the door, completed once, never changed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cloudbrush.domain.generation import HiresFix, Img2Img, Txt2Img, Variation
from cloudbrush.domain.job import Job
from tests import builders


def test_names_are_stored_in_their_own_spelling() -> None:
    asked = Txt2Img(sampler="k_euler_a", schedule="karras")
    assert (asked.sampler, asked.schedule) == ("Euler a", "Karras")


def test_a_sampler_that_needs_more_steps_says_how_many() -> None:
    with pytest.raises(ValidationError, match="UniPC needs at least 3 steps") as refused:
        Txt2Img(sampler="UniPC", steps=2)
    assert refused.value.errors()[0]["loc"] == ("steps",)
    assert Txt2Img(sampler="UniPC", steps=3).steps == 3


def test_completing_fills_only_what_was_open() -> None:
    completed = complete(Txt2Img(width=64), seed=7, size=(128, 128))
    assert (completed.checkpoint, completed.width, completed.height) == ("pocket", 64, 128)
    assert (completed.seed, completed.vae) == (7, None)
    assert complete(completed, seed=8, size=(512, 512)) == completed


def complete(generation: Txt2Img, *, seed: int = 1, size: tuple[int, int] = (128, 128)) -> Txt2Img:
    return generation.completed(checkpoint="pocket", size=size, seed=seed, variation_seed=seed + 1, vae=None)


def test_of_a_variation_only_what_counts_is_kept() -> None:
    assert complete(Txt2Img(variation=Variation(seed=5))).variation is None
    sized = complete(Txt2Img(variation=Variation(seed=5, from_width=64, from_height=96)))
    assert sized.variation == Variation(seed=0, from_width=64, from_height=96)
    drawn = complete(Txt2Img(variation=Variation(strength=0.5)), seed=7)
    assert drawn.variation == Variation(seed=8, strength=0.5)


def test_images_of_a_job_have_seeds_of_their_own() -> None:
    """Specification 3.1: with a variation all seeds are equal, and its own count on."""
    plain = builders.generation(seed=10)
    assert [plain.seeds(k)[0] for k in range(3)] == [10, 11, 12]
    varied = builders.generation(seed=10, variation=Variation(seed=70, strength=0.1))
    assert [varied.seeds(k) for k in range(3)] == [(10, 70), (10, 71), (10, 72)]


def test_the_checkpoints_own_vae_has_a_name() -> None:
    assert Txt2Img(vae="None").vae is None
    assert Txt2Img().vae == "Automatic"


@pytest.mark.parametrize("task", ["txt2img", "img2img"])
def test_a_job_reads_back_the_task_it_was_stored_with(task: str) -> None:
    asked = builders.generation() if task == "txt2img" else Img2Img(image="0" * 64, denoising_strength=0.3)
    job = builders.job(generation=asked)
    assert Job.model_validate_json(job.model_dump_json()).generation == asked


def test_a_generation_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        builders.generation().steps = 3  # type: ignore[misc]


def test_images_are_counted_over_all_batches() -> None:
    assert builders.generation(batch_count=3, batch_size=4).image_count == 12


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, (1024, 768)),
        ({"scale": 1.05}, (537, 403)),
        ({"resize_width": 768}, (768, 576)),
        ({"resize_height": 768}, (1024, 768)),
        ({"resize_width": 640, "resize_height": 640, "scale": 3}, (640, 640)),
    ],
)
def test_hires_fix_ends_at_a_size_by_scale_or_by_sides(given: dict, size: tuple[int, int]) -> None:
    """The scale counts unless a side is given; one side keeps the aspect (specification 1.1, 3.5)."""
    assert HiresFix(**given).size(512, 384) == size
