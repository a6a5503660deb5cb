"""Hires fix: sizes, ways to enlarge, and the second pass (specification 3.5)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import HiresFix, Options
from cloudbrush.engine import Broke, Engine, ModelFile, Models
from cloudbrush.engine.decoding import decode, to_image
from cloudbrush.engine.encoding import encode, to_pixels
from cloudbrush.engine.hires import Target, enlarged_image, enlarged_latents
from cloudbrush.engine.models.checkpoint import Placement
from cloudbrush.engine.models.single_file import load_single_file
from tests.engine.listening import Listener, StopAt, generation


def target(**sizes: float) -> Target:
    return Target.of(512, 768, HiresFix(**sizes), 8)


def test_the_scale_is_cut_off_to_whole_pixels() -> None:
    assert target(scale=1.3) == Target(665, 998)
    assert target(scale=1.3).sides(8) == (124, 83)


def test_one_side_keeps_the_aspect() -> None:
    assert target(resize_width=1024) == Target(1024, 1536)
    assert target(resize_height=768) == Target(512, 768)


def test_both_sides_are_covered_and_the_rest_cut_off_in_latents() -> None:
    assert target(resize_width=1024, resize_height=1024) == Target(1024, 1536, 0, 64)
    assert target(resize_width=1024, resize_height=1024).sides(8) == (128, 128)
    assert target(resize_width=512, resize_height=1024) == Target(682, 1024, 21, 0)


def test_of_an_odd_rest_the_larger_half_is_cut_off_at_the_end() -> None:
    columns = torch.arange(85).expand(4, 128, 85)
    assert Target(682, 1024, 21, 0).cut(columns)[0, 0].tolist() == list(range(10, 74))


def test_hardly_anything_is_refused_with_the_field() -> None:
    with pytest.raises(GenerationFailed) as refused:
        Target.of(2048, 64, HiresFix(resize_width=1024), 8)
    assert refused.value.field == "hires.resize_width"


@pytest.mark.parametrize(
    ("upscaler", "mode", "antialias"),
    [
        ("Latent", "bilinear", False),
        ("Latent (antialiased)", "bilinear", True),
        ("Latent (bicubic)", "bicubic", False),
        ("Latent (bicubic antialiased)", "bicubic", True),
        ("Latent (nearest)", "nearest", False),
        ("Latent (nearest-exact)", "nearest-exact", False),
    ],
)
def test_latent_modes_are_interpolations(upscaler: str, mode: str, antialias: bool) -> None:
    latents = torch.randn(4, 8, 8)
    expected = torch.nn.functional.interpolate(latents[None], size=(12, 10), mode=mode, antialias=antialias)
    assert torch.equal(enlarged_latents(latents, upscaler, Target(80, 96), 8), expected[0])


def noise_image(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def test_nearest_goes_to_a_multiple_of_eight_and_lanczos_does_the_rest() -> None:
    image = noise_image(64, 64)
    by_hand = image.resize((83, 83), Image.Resampling.NEAREST).resize((80, 80), Image.Resampling.LANCZOS)
    by_hand = by_hand.resize((83, 83), Image.Resampling.LANCZOS)
    found = enlarged_image(image, "Nearest", Target(83, 83))
    assert np.array_equal(np.asarray(found), np.asarray(by_hand))


def test_none_is_plain_lanczos() -> None:
    image = noise_image(64, 64)
    found = enlarged_image(image, "None", Target(100, 96))
    assert np.array_equal(np.asarray(found), np.asarray(image.resize((100, 96), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize(("scale", "turns"), [(1.5, 1), (2, 1), (3, 2), (4, 2), (16, 3)])
def test_a_model_runs_until_it_is_large_enough_but_three_times_at_most(scale: float, turns: int) -> None:
    calls = []

    def double(image: Image.Image) -> Image.Image:
        calls.append(image.size)
        return image.resize((image.width * 2, image.height * 2))

    side = int(64 * scale)
    assert enlarged_image(noise_image(64, 64), double, Target(side, side)).size == (side, side)
    assert len(calls) == turns


def test_steps_of_both_passes_count_and_the_image_is_larger(paint) -> None:
    (listener,) = paint(generation(steps=4, hires=HiresFix(scale=1.5, steps=6), batch_count=2))
    assert [event.step for event in listener.steps] == list(range(1, 21))
    assert {event.steps for event in listener.steps} == {20}
    assert [(image.width, image.height) for image in listener.images] == [(96, 96)] * 2
    assert set(listener.events[-1].seconds) == {"load", "encode", "denoise", "upscale", "decode"}


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_a_batch_equals_its_images_alone(paint, upscaler: str) -> None:
    hires = HiresFix(scale=1.5, upscaler=upscaler, denoising_strength=0.5)
    (batch,) = paint(generation(hires=hires, batch_size=2, seed=5, sampler="Euler a"))
    alone = [paint(generation(hires=hires, seed=5 + k, sampler="Euler a"))[0].pixels[0] for k in range(2)]
    assert np.abs(batch.pixels - np.stack(alone)).max() <= 1


def test_without_denoising_the_second_pass_is_the_enlarged_image(paint, tiny: ModelFile) -> None:
    """Decode, enlarge, encode by a draw from the posterior, decode: nothing is sampled."""
    (plain,), (listener,) = (
        paint(generation()),
        paint(generation(hires=HiresFix(scale=1.5, upscaler="Lanczos", denoising_strength=0))),
    )
    checkpoint = load_single_file(tiny.path, name="tiny", sha256="", placement=Placement(torch.device("cpu")))
    image = Image.fromarray(plain.pixels[0].astype(np.uint8))
    image = enlarged_image(image, "Lanczos", Target(96, 96))
    expected = decode(checkpoint, encode(checkpoint, to_pixels(image)).sample(1))
    assert np.abs(np.asarray(expected, np.int16) - listener.pixels[0]).max() <= 1


def test_prompt_sampler_checkpoint_and_steps_of_its_own_change_the_image(
    engine: Engine, tiny: ModelFile, other: ModelFile
) -> None:
    base = HiresFix(scale=1.5)
    variants = [
        base,
        base.model_copy(update={"prompt": "a dog"}),
        base.model_copy(update={"negative_prompt": "x"}),
        base.model_copy(update={"sampler": "Euler"}),
        base.model_copy(update={"schedule": "Exponential"}),
        base.model_copy(update={"steps": 9}),
        base.model_copy(update={"checkpoint": "other"}),
    ]
    images = []
    for hires in variants:
        listener = Listener()
        engine.submit(generation(hires=hires), Models(tiny, checkpoints=(other,)), listener)
        listener.wait()
        images.append(listener.pixels)
    for position, image in enumerate(images):
        assert all((image != later).any() for later in images[position + 1 :])


def test_what_is_named_like_the_first_passes_changes_nothing(paint) -> None:
    """Sampler and schedule of one's own that are the same ones, and the same prompt."""
    same = HiresFix(scale=1.5, prompt="a cat", sampler="DPM++ 2M", schedule="Karras", steps=3)
    (one,), (two,) = paint(generation(hires=HiresFix(scale=1.5))), paint(generation(hires=same))
    assert np.array_equal(one.pixels, two.pixels)


def test_a_checkpoint_that_is_not_there_is_named(engine: Engine, tiny: ModelFile) -> None:
    listener = Listener()
    engine.submit(generation(hires=HiresFix(checkpoint="gone")), Models(tiny), listener)
    error = listener.wait().error
    assert (error.code, error.field) == ("unknown_model", "hires.checkpoint")


def test_an_upscaler_that_is_not_there_is_named(engine: Engine, tiny: ModelFile) -> None:
    listener = Listener()
    engine.submit(generation(hires=HiresFix(upscaler="gone")), Models(tiny), listener)
    error = listener.wait().error
    assert (error.code, error.field) == ("unknown_model", "hires.upscaler")


def test_extra_noise_changes_the_second_pass_only(paint) -> None:
    (one,), (two,) = paint(generation()), paint(generation(options=Options(extra_noise=0.5)))
    assert np.array_equal(one.pixels, two.pixels)
    (one,), (two,) = (
        paint(generation(hires=HiresFix(scale=1.5))),
        paint(generation(hires=HiresFix(scale=1.5), options=Options(extra_noise=0.5))),
    )
    assert (one.pixels != two.pixels).any()


def test_cancelling_in_the_second_pass_ends_the_run(engine: Engine, tiny: ModelFile) -> None:
    listener = StopAt(engine, step=3)
    asked = generation(steps=2, hires=HiresFix(scale=1.5, steps=150))
    listener.handle = engine.submit(asked, Models(tiny), listener)
    listener.submitted.set()
    listener.wait()
    assert [event.step for event in listener.steps] == [1, 2, 3]
    assert isinstance(listener.events[-1], Broke)


def test_pixels_are_cut_off_not_rounded() -> None:
    image = to_image(torch.full((3, 1, 1), 0.999))
    assert image.getpixel((0, 0)) == (254, 254, 254)


def test_the_infotext_tells_the_second_pass(engine: Engine, tiny: ModelFile, other: ModelFile) -> None:
    listener = Listener()
    hires = HiresFix(scale=1.5, steps=2, checkpoint="other", upscaler="Lanczos", denoising_strength=0.4)
    engine.submit(generation(hires=hires), Models(tiny, checkpoints=(other,)), listener)
    listener.wait()
    text = listener.images[0].infotext
    digest = hashlib.sha256(other.path.read_bytes()).hexdigest()[:10]
    for told in (
        "Size: 64x64",
        "Denoising strength: 0.4",
        f"Hires checkpoint: other [{digest}]",
        "Hires upscale: 1.5",
        "Hires steps: 2",
        "Hires upscaler: Lanczos",
    ):
        assert told in text
