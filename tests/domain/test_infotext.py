"""Infotexts: the WebUI's are understood, ours come back as what was painted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain import infotext
from cloudbrush.domain.generation import (
    MAX_SEED,
    HiresFix,
    Img2Img,
    Inpainting,
    Options,
    Refiner,
    Txt2Img,
    Variation,
)
from cloudbrush.domain.sampling import AUTOMATIC, SAMPLERS, SCHEDULES, find_sampler
from tests.golden.load import golden

# Fields of img2img, and of the modules that Forge has in place of a VAE.
OTHERS = {
    "VAE",
    "Mask mode",
    "Masked content",
    "Inpaint area",
    "Masked area padding",
    "VAE/TE",
    "Hires VAE/TE",
}
SHA256 = "6ce0161689" + "0" * 54


@pytest.mark.parametrize("case", golden("infotext")["infotexts"], ids=lambda case: case["infotext"][-60:])
def test_fields_equal_the_webui(case: dict) -> None:
    expected = {key: str(value) for key, value in case["parsed"].items() if key not in OTHERS}
    parsed = infotext.parse(case["infotext"])
    assert {key: value for key, value in parsed.items() if key not in OTHERS} == expected


@pytest.mark.parametrize("case", golden("infotext")["quote"], ids=lambda case: repr(case[0]))
def test_quoting_equals_the_webui(case: list) -> None:
    value, quoted, unquoted = case
    assert infotext.quote(value) == str(quoted)
    assert infotext.unquote(infotext.quote(value)) == unquoted


def complete(**fields: Any) -> Txt2Img:
    return Txt2Img(**{"checkpoint": "pocket", "width": 128, "height": 192, "seed": 1, "vae": None, **fields})


def test_the_text_reads_as_people_know_it() -> None:
    generation = complete(prompt="a cat", negative_prompt="dog", checkpoint="v1-5: pruned", cfg_scale=7.5)
    assert infotext.write(generation, seed=3, model_hash=SHA256) == (
        "a cat\nNegative prompt: dog\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 3, Size: 128x192, "
        'Model hash: 6ce0161689, Model: "v1-5: pruned", RNG: NV, Version: cloudbrush-0.1.0'
    )


PLAIN = [
    record
    for record in golden("samplers_toy")["records"]
    if "infotext" in record and set(record["overrides"]) == {"randn_source"}
    if not set(record) & {"eta", "subseed", "seed_resize_from_w", "enable_hr"}
]


@pytest.mark.parametrize("record", PLAIN, ids=lambda record: record["id"])
def test_the_text_equals_the_webui_for_every_sampler_and_schedule(record: dict) -> None:
    generation = complete(
        prompt="x",
        checkpoint="sd15-random",
        sampler=record["sampler_name"],
        schedule=record["scheduler"],
        steps=record["steps"],
        width=64,
        height=64,
        seed=1234,
        cfg_scale=record["cfg_scale"],
        noise_source=record["overrides"]["randn_source"],
    )
    ours, _, _ = infotext.write(generation, seed=1234, model_hash="").rpartition(", Version: ")
    theirs, _, _ = record["infotext"].rpartition(", Version: ")
    assert ours.replace("Model hash: , ", "") == theirs


def test_an_image_of_a_gpu_is_painted_again_with_the_source_that_imitates_it() -> None:
    text = "x\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
    assert infotext.to_generation_fields(infotext.parse(text))["noise_source"] == "NV"


def test_text_that_is_only_a_prompt_says_nothing_about_steps() -> None:
    assert infotext.to_generation_fields(infotext.parse("just words")) == {
        "prompt": "just words",
        "negative_prompt": "",
        "noise_source": "NV",
    }


TEXT = st.text(
    alphabet=st.characters(exclude_characters="\x00#", exclude_categories=["Cs"]), max_size=80
) | st.sampled_from(
    [
        "",
        " a ",
        "a\n\nb",
        "Negative prompt: x",
        "a\nNegative prompt:",
        "Steps: 1, Seed: 2, Size: 3x4",
        "\r",
        '"\\"',
    ]
)
GENERATIONS = st.builds(
    complete,
    prompt=TEXT,
    negative_prompt=TEXT,
    checkpoint=st.text(
        alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=40
    ),
    sampler=st.sampled_from([sampler.name for sampler in SAMPLERS]),
    schedule=st.sampled_from([schedule.name for schedule in SCHEDULES]),
    steps=st.integers(max(sampler.fewest_steps for sampler in SAMPLERS), 150),
    vae=st.none() | st.sampled_from(["anime", "soft, warm"]),
    width=st.integers(8, 256).map(lambda n: n * 8),
    height=st.integers(8, 256).map(lambda n: n * 8),
    cfg_scale=st.floats(1, 30),
    seed=st.integers(0, MAX_SEED),
    noise_source=st.sampled_from(["NV", "CPU"]),
)


@given(GENERATIONS)
def test_a_written_generation_reads_back_as_itself(generation: Txt2Img) -> None:
    text = infotext.write(generation, seed=generation.seed, model_hash=SHA256)
    back = Txt2Img(**infotext.to_generation_fields(infotext.parse(text)))
    sampler = find_sampler(generation.sampler)
    assert sampler is not None
    if generation.schedule == sampler.own_schedule:  # the same thing by its other name
        generation = generation.model_copy(update={"schedule": AUTOMATIC})
    assert back == generation


SAMPLER_NAMES = st.none() | st.sampled_from(["Euler a", "DDIM"])
SIDES = st.sampled_from([0, 64, 520])
SHARES = st.floats(0, 1)
HIRES = st.builds(
    HiresFix,
    upscaler=st.sampled_from(["Latent", "Lanczos", "4x: sharp, crisp"]),
    steps=st.integers(0, 150),
    denoising_strength=SHARES,
    scale=st.just(2.0),
    resize_width=SIDES,
    resize_height=SIDES,
    checkpoint=st.none() | st.just("other, one"),
    sampler=SAMPLER_NAMES,
    schedule=st.none() | st.sampled_from(["Automatic", "Karras", "Beta"]),
    prompt=TEXT,
    negative_prompt=TEXT,
) | st.builds(HiresFix, scale=st.floats(1, 4))
VARIATIONS = st.builds(
    Variation, seed=st.integers(0, MAX_SEED), strength=st.floats(0.01, 1), from_width=SIDES, from_height=SIDES
).filter(lambda variation: variation.resizes or not (variation.from_width or variation.from_height))
SETTINGS = st.builds(
    Options,
    emphasis=st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    old_prompt_editing=st.booleans(),
    eta=SHARES,
    eta_ddim=SHARES,
    eta_noise_seed_delta=st.integers(0, MAX_SEED),
    sigma_churn=st.floats(0, 100),
    sigma_tmin=st.floats(0, 10),
    sigma_tmax=st.floats(0, 1000),
    sigma_noise=st.floats(0, 2),
    sigma_min=st.floats(0, 1),
    sigma_max=st.floats(0, 1000),
    rho=st.floats(0, 20),
    beta_alpha=st.floats(0.1, 2),
    beta_beta=st.floats(0.1, 2),
    discard_penultimate=st.booleans(),
    sgm_noise_multiplier=st.booleans(),
    quantize=st.booleans(),
    noise_schedule=st.sampled_from(["Default", "Zero Terminal SNR"]),
    downcast_alphas=st.booleans(),
    negative_minimum_sigma=st.floats(0, 15),
    negative_minimum_all_steps=st.booleans(),
    skip_early_guidance=SHARES,
    pad_prompts=st.booleans(),
    extra_noise=SHARES,
    refiner_by_steps=st.booleans(),
    hires_refiner=st.sampled_from(["first pass", "second pass", "both passes"]),
)
EVERYTHING = st.builds(
    complete,
    prompt=TEXT,
    clip_skip=st.integers(1, 12),
    noise_source=st.sampled_from(["NV", "CPU", "GPU"]),
    variation=st.none() | VARIATIONS,
    hires=st.none() | HIRES,
    refiner=st.none() | st.builds(Refiner, checkpoint=st.just("fine [one]"), switch_at=st.floats(0.01, 1)),
    options=SETTINGS,
)


@given(EVERYTHING)
def test_whatever_was_set_reads_back(generation: Txt2Img) -> None:
    hashes = infotext.Hashes(checkpoints={"other, one": SHA256, "fine [one]": SHA256})
    text = infotext.write(generation, seed=generation.seed, model_hash=SHA256, others=hashes)
    assert Txt2Img(**infotext.to_generation_fields(infotext.parse(text))) == generation


def test_the_groups_read_as_people_know_them() -> None:
    """Labels, order and forms of the specification's section 5.1."""
    generation = complete(
        prompt="(a cat:1.2)",
        sampler="Euler a",
        clip_skip=2,
        noise_source="CPU",
        variation=Variation(seed=77, strength=0.3, from_width=96, from_height=48),
        hires=HiresFix(steps=10, denoising_strength=0.7, prompt="a dog, big", checkpoint="other"),
        refiner=Refiner(checkpoint="fine", switch_at=0.8),
        options=Options(emphasis="No norm", eta_noise_seed_delta=31337, eta=0.5, sigma_churn=10.0),
    )
    hashes = infotext.Hashes(checkpoints={"other": SHA256, "fine": SHA256}, loras={"foo": "0123456789ab"})
    text = infotext.write(generation, seed=1, variation_seed=78, model_hash=SHA256, others=hashes)
    assert text.splitlines()[-1] == (
        "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 128x192, "
        "Model hash: 6ce0161689, Model: pocket, Variation seed: 78, Variation seed strength: 0.3, "
        "Seed resize from: 96x48, Denoising strength: 0.7, Clip skip: 2, ENSD: 31337, RNG: CPU, "
        'Hires checkpoint: other [6ce0161689], Hires prompt: "a dog, big", Hires upscale: 2, '
        "Hires steps: 10, "
        'Hires upscaler: Latent, Lora hashes: "foo: 0123456789ab", Emphasis: No norm, Eta: 0.5, '
        "Sigma churn: 10, "
        "Refiner: fine [6ce0161689], Refiner switch at: 0.8, Version: cloudbrush-0.1.0"
    )


def test_hires_fix_of_others_is_read() -> None:
    text = f"a\n{LINE}, Denoising strength: 0.55, Hires upscale: 1.5, Hires upscaler: 4x-UltraSharp"
    fields = infotext.to_generation_fields(infotext.parse(text))
    assert Txt2Img(**fields).hires == HiresFix(denoising_strength=0.55, scale=1.5, upscaler="4x-UltraSharp")


def test_an_old_image_brings_its_old_rules() -> None:
    parsed = infotext.parse(f"a [b:c:0.3]\n{LINE}, Refiner: x [0123456789], Version: v1.5.1")
    generation = Txt2Img(**infotext.to_generation_fields(parsed))
    assert generation.options == Options(old_prompt_editing=True, downcast_alphas=True, refiner_by_steps=True)


LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 1024x512"


@pytest.mark.parametrize(
    ("old", "fields"),
    [
        (
            "First pass size: 0x0",
            {"Size-1": "768", "Size-2": "384", "Hires resize-1": "1024", "Hires resize-2": "512"},
        ),
        ("First pass size: 640x320", {"Size-1": "640", "Size-2": "320", "Hires resize-1": "1024"}),
        ("Size-1: none, First pass size-1: x", {"Size-1": "512", "Hires resize-1": "512"}),
        ("Hypernet: foo, Hypernet strength: 0.5", {"Prompt": "a cat<hypernet:foo:0.5>"}),
        (
            "AddNet Module 1: LoRA, AddNet Model 1: foo(a1b2c3), AddNet Weight A 1: 0.5",
            {"Prompt": "a cat\n<lora:foo:0.5>"},
        ),
        ("AddNet Module 1: LyCORIS, AddNet Model 1: foo(a1b2c3)", {"Prompt": "a cat"}),
    ],
)
def test_older_texts_are_translated(old: str, fields: dict[str, str]) -> None:
    parsed = infotext.parse(f"a cat\n{LINE}, {old}")
    assert fields.items() <= parsed.items()


@given(st.text(max_size=200))
def test_any_text_is_an_infotext(text: str) -> None:
    parsed = infotext.parse(text)
    assert set(parsed) >= {infotext.PROMPT, infotext.NEGATIVE_PROMPT}
    infotext.to_generation_fields(parsed)


@pytest.mark.parametrize("unit", ["a", "a:", 'aa:"', "aa: b, ", '\\"', ", ", 'aa:"\\,'])
def test_time_grows_with_length_only(unit: str) -> None:
    """100 000 characters of any shape; a quadratic reader would run into the test's time limit."""
    assert infotext.parse(unit * (100_000 // len(unit)))


def test_img2img_reads_back_what_it_wrote() -> None:
    mask = Inpainting(mask="b" * 64, inverted=True, blur=8, fill="latent noise", only_masked=True, padding=16)
    painted = Img2Img(
        image="a" * 64,
        checkpoint="pocket",
        width=64,
        height=64,
        seed=1,
        denoising_strength=0.3,
        inpainting=mask,
        noise_multiplier=0.9,
    )
    parsed = infotext.parse(infotext.write(painted, seed=1, model_hash=SHA256))
    read = infotext.to_img2img_fields(parsed)
    over = {"image": "a" * 64, "inpainting": {"mask": "b" * 64, **read.pop("inpainting")}}
    told = Img2Img(**read, **over)
    assert (told.denoising_strength, told.noise_multiplier, told.inpainting) == (0.3, 0.9, mask)


def test_the_denoising_strength_of_hires_fix_is_none_of_img2img() -> None:
    told = "a\nSteps: 1, Sampler: Euler, Seed: 1, Denoising strength: 0.7"
    assert infotext.to_img2img_fields(infotext.parse(told)) == {"denoising_strength": "0.7"}
    assert infotext.to_img2img_fields(infotext.parse(f"{told}, Hires upscale: 2")) == {}


def test_a_checkpoint_whose_hash_is_not_known_is_told_by_name() -> None:
    text = infotext.write(Txt2Img(checkpoint="pocket", width=64, height=64, seed=1), seed=1, model_hash="")
    assert "Model hash" not in text
    assert "Model: pocket" in text
