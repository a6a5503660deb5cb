"""Infotexts: the WebUI's are understood, ours come back as what was painted."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cloudbrush.domain import image_file, infotext
from cloudbrush.domain.generation import (
    MAX_SEED,
    RANDOM_SEED,
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

OTHERS = {"VAE", "VAE/TE", "Hires VAE/TE"}  # of the modules that Forge has in place of a VAE
SHA256 = "6ce0161689" + "0" * 54
PIXEL = Image.new("RGB", (8, 8))


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


RECORDS = [record for record in golden("samplers_toy")["records"] if "infotext" in record]


def painted(record: dict[str, Any]) -> Txt2Img:
    """The generation of a golden record."""
    set_there = record["overrides"]
    options = {
        "eta": record.get("eta", 1.0),
        "eta_noise_seed_delta": set_there.get("eta_noise_seed_delta", 0),
        "sigma_churn": set_there.get("s_churn", 0.0),
        "sigma_tmin": set_there.get("s_tmin", 0.0),
        "sigma_tmax": set_there.get("s_tmax", 0.0),
        "sigma_noise": set_there.get("s_noise", 1.0),
        "discard_penultimate": set_there.get("always_discard_next_to_last_sigma", False),
    }
    variation = {
        "seed": record.get("subseed", RANDOM_SEED),
        "strength": record.get("subseed_strength", 0.0),
        "from_width": record.get("seed_resize_from_w", 0),
        "from_height": record.get("seed_resize_from_h", 0),
    }
    hires = {"scale": record.get("hr_scale"), "upscaler": record.get("hr_upscaler")}
    return complete(
        prompt="x",
        checkpoint="sd15-random",
        sampler=record["sampler_name"],
        schedule=record["scheduler"],
        steps=record["steps"],
        width=record["width"],
        height=record["height"],
        seed=record["seeds"][0],
        cfg_scale=record["cfg_scale"],
        noise_source=set_there["randn_source"],
        variation=variation if {"subseed", "seed_resize_from_w"} & set(record) else None,
        hires=hires | {"denoising_strength": 0.7} if record.get("enable_hr") else None,
        options=options,
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_the_text_equals_the_webui_for_every_record(record: dict[str, Any]) -> None:
    generation = painted(record)
    text = infotext.write(generation, seed=generation.seed, model_hash="")
    ours, _, _ = text.rpartition(", Version: ")
    theirs, _, _ = record["infotext"].rpartition(", Version: ")
    for forges in (", Hires Module 1: Use same choices", ", Hires CFG Scale: 7.0"):
        theirs = theirs.replace(forges, "")
    assert ours == re.sub(r"(\d)\.0(?=,|$)", r"\1", theirs)  # numbers that are whole are written so


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_the_text_of_the_webui_paints_what_it_painted(record: dict[str, Any]) -> None:
    fields = infotext.to_generation_fields(infotext.parse(record["infotext"]))
    generation = painted(record)
    if generation.schedule == find_sampler(generation.sampler).own_schedule:  # type: ignore[union-attr]
        generation = generation.model_copy(update={"schedule": AUTOMATIC})
    assert Txt2Img(**fields) == generation


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
        "512x768",
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
    )
    | st.sampled_from(["512x768", "007x1"]),
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
    upscaler=st.sampled_from(["Latent", "Lanczos", "4x: sharp, crisp", "4x16"]),
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
    pad_prompts_v0=st.booleans(),
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


OTHER_HASHES = infotext.Hashes(checkpoints={"other, one": SHA256, "fine [one]": SHA256})


@given(EVERYTHING)
def test_whatever_was_set_reads_back(generation: Txt2Img) -> None:
    text = infotext.write(generation, seed=generation.seed, model_hash=SHA256, others=OTHER_HASHES)
    assert Txt2Img(**infotext.to_generation_fields(infotext.parse(text))) == told(generation)


def told(generation: Txt2Img) -> Txt2Img:
    """The same, its hires pass naming only what is another than the first pass's (specification 5.1)."""
    hires = generation.hires
    if hires is None:
        return generation
    named_again = {
        name: type(getattr(hires, name))() if name != "sampler" else None
        for name in ("prompt", "negative_prompt", "sampler")
        if getattr(hires, name) == getattr(generation, name)
    }
    return generation.model_copy(update={"hires": hires.model_copy(update=named_again)})


IMG2IMG = st.builds(
    Img2Img,
    prompt=TEXT,
    checkpoint=st.just("pocket"),
    width=st.just(128),
    height=st.just(192),
    seed=st.integers(0, MAX_SEED),
    vae=st.none(),
    image=st.just("0" * 64),
    denoising_strength=SHARES,
    resize_mode=st.sampled_from(
        ["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]
    ),
    fix_steps=st.booleans(),
    noise_multiplier=st.floats(0, 1.5),
    inpainting=st.none()
    | st.builds(
        Inpainting,
        mask=st.just("1" * 64),
        inverted=st.booleans(),
        blur=st.integers(1, 64),
        fill=st.sampled_from(["fill", "original", "latent noise", "latent nothing"]),
        only_masked=st.just(True),
        padding=st.integers(0, 256),
        mask_weight=SHARES,
    )
    | st.builds(Inpainting, mask=st.just("1" * 64), blur=st.integers(1, 64)),
)


@given(IMG2IMG)
def test_a_picture_painted_over_reads_back_but_for_the_pictures(generation: Img2Img) -> None:
    text = infotext.write(generation, seed=generation.seed, model_hash=SHA256)
    fields = infotext.to_img2img_fields(infotext.parse(text))
    if "inpainting" in fields:
        fields["inpainting"]["mask"] = "1" * 64
    assert Img2Img(**fields, image="0" * 64) == generation


@given(EVERYTHING, st.sampled_from(image_file.FORMATS))
def test_parse_write_keep_and_read_is_the_identity(generation: Txt2Img, kind: str) -> None:
    """An infotext is parsed, painted, kept in an image file and read again: it stays letter for letter."""
    text = infotext.write(generation, seed=generation.seed, model_hash=SHA256, others=OTHER_HASHES)
    again = Txt2Img(**infotext.to_generation_fields(infotext.parse(text)))
    painted = infotext.write(again, seed=again.seed, model_hash=SHA256, others=OTHER_HASHES)
    assert painted == text
    assert image_file.read_infotext(image_file.save(PIXEL, painted, kind)) == text


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
    ("version", "prompt", "more", "switches"),
    [
        ("v1.5.2", "a [b]", "", {"old", "downcast"}),
        ("v1.5.2", "a", "", {"downcast"}),
        ("v1.5.2", "a\nNegative prompt: [b]", "", {"downcast"}),  # only the prompt is looked at
        ("v1.5.2", "a", "Sampler: DDIM", {"pad", "downcast"}),
        ("v1.5.2", "a", "Sampler: PLMS", {"pad", "downcast"}),
        ("1.6.0", "a [b]", "Sampler: DDIM", {"downcast"}),
        ("v1.6.0-RC-28-ga0af2852", "a [b]", "", {"old", "downcast"}),  # a candidate is before its release
        ("v1.6.0-2-g4afaaf8a", "a [b]", "", {"downcast"}),
        ("v1.7.0-224-g12345678", "a", "", {"downcast"}),
        ("v1.7.0-225-g12345678", "a", "Refiner: x", {"steps"}),
        ("v1.8.0-RC", "a", "Refiner: x", {"steps"}),
        ("v1.8.0", "a", "Refiner: x", set()),
        ("v1.10.1", "a [b]", "Refiner: x, Sampler: DDIM", set()),
        ("f2.0.1v1.10.1-previous-669-gdfdcbab6", "a [b]", "", set()),
        ("ComfyUI", "a [b]", "", set()),
        ("", "a [b]", "", set()),
    ],
)
def test_versions_bring_the_rules_of_their_time(
    version: str, prompt: str, more: str, switches: set[str]
) -> None:
    """Specification 5.2; what is no version changes nothing."""
    labels = {
        "Old prompt editing timelines": "old",
        "Pad conds v0": "pad",
        "Downcast alphas_cumprod": "downcast",
        "Refiner switch by sampling steps": "steps",
    }
    parsed = infotext.parse(f"{prompt}\n{LINE}, {more}, Version: {version}")
    assert {labels[label] for label in labels if parsed.get(label) == "True"} == switches


@pytest.mark.parametrize(
    ("prompt", "used"),
    [
        ("a (b:1.2)", True),
        ("a [b]", True),
        ("a \\(b\\)", False),
        ("a", False),
        ("(a:1)", False),
        ("a BREAK b", False),
    ],
)
def test_emphasis_is_told_as_usual_where_weights_are_used(prompt: str, used: bool) -> None:
    """Specification 5.2; a BREAK is no weight, and neither is an escaped bracket."""
    for text in (prompt, f"x\nNegative prompt: {prompt}"):
        assert infotext.parse(f"{text}\n{LINE}").get("Emphasis") == ("Original" if used else None)


def test_odd_values_are_read_as_the_webui_reads_them() -> None:
    """One-letter keys are skipped, empty values are not told, a quoted size is a size."""
    parsed = infotext.parse(
        f'a\n{LINE}, X: 1, Foo: , Bar: "3x4", Baz: "a, \\"b\\": c", Qux: "open, Quux:  7 '
    )
    assert not {"X", "Foo", "Bar"} & set(parsed)
    assert (parsed["Bar-1"], parsed["Bar-2"]) == ("3", "4")
    assert parsed["Baz"] == 'a, "b": c'
    assert (parsed["Qux"], parsed["Quux"]) == ('"open', "7")


def test_an_old_name_of_the_hires_sampler_is_two() -> None:
    parsed = infotext.parse(
        f"a\n{LINE}, Denoising strength: 0.5, Hires upscale: 2, Hires sampler: DPM++ 2M SDE Karras"
    )
    hires = Txt2Img(**infotext.to_generation_fields(parsed)).hires
    assert hires is not None
    assert (hires.sampler, hires.schedule) == ("DPM++ 2M SDE", "Karras")


def test_what_the_hires_pass_has_in_common_is_not_told() -> None:
    """Specification 5.1: its prompt only if different."""
    same = HiresFix(prompt="a cat", negative_prompt="dog", sampler="Euler a")
    generation = complete(prompt="a cat", negative_prompt="dog", sampler="Euler a", hires=same)
    text = infotext.write(generation, seed=1, model_hash=SHA256)
    assert not {"Hires prompt", "Hires negative prompt", "Hires sampler"} & set(
        text.replace(",", ":").split(": ")
    )


def test_the_settings_read_as_people_know_them() -> None:
    """Every setting under the WebUI's label, in its order (specification 5.1)."""
    options = Options(
        emphasis="No norm", old_prompt_editing=True, noise_schedule="Zero Terminal SNR", downcast_alphas=True,
        discard_penultimate=True, sigma_min=0.1, sigma_max=10, rho=5, sgm_noise_multiplier=True, eta=0.5,
        eta_ddim=0.25, eta_noise_seed_delta=31337, sigma_churn=5, sigma_tmin=0.5, sigma_tmax=9,
        sigma_noise=1.01, extra_noise=0.1, negative_minimum_sigma=0.5, negative_minimum_all_steps=True,
        skip_early_guidance=0.2, pad_prompts=True, pad_prompts_v0=True, refiner_by_steps=True,
        hires_refiner="both passes",
    )  # fmt: skip
    generation = complete(schedule="Beta", options=options, refiner=Refiner(checkpoint="fine"))
    line = infotext.write(generation, seed=1, model_hash=SHA256).splitlines()[-1]
    assert line.partition("Model: pocket, ")[2].rpartition(", Version")[0] == (
        "ENSD: 31337, RNG: NV, Emphasis: No norm, Old prompt editing timelines: True, "
        "Noise Schedule: Zero Terminal SNR, Downcast alphas_cumprod: True, Discard penultimate sigma: True, "
        "Schedule min sigma: 0.1, Schedule max sigma: 10, Schedule rho: 5, Beta schedule alpha: 0.6, "
        "Beta schedule beta: 0.6, SGM noise multiplier: True, Eta: 0.5, Eta DDIM: 0.25, Sigma churn: 5, "
        "Sigma tmin: 0.5, Sigma tmax: 9, Sigma noise: 1.01, Extra noise: 0.1, NGMS: 0.5, "
        "NGMS all steps: True, "
        "Skip Early CFG: 0.2, Pad conds: True, Pad conds v0: True, Refiner: fine, Refiner switch at: 0.8, "
        "Refiner switch by sampling steps: True, Hires refiner: both passes"
    )


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


def test_the_denoising_strength_of_hires_fix_is_none_of_img2img() -> None:
    told = "a\nSteps: 1, Sampler: Euler, Seed: 1, Denoising strength: 0.7"
    assert infotext.to_img2img_fields(infotext.parse(told))["denoising_strength"] == "0.7"
    hires = infotext.parse(f"{told}, Hires upscale: 2")
    assert "denoising_strength" not in infotext.to_img2img_fields(hires)


def test_a_checkpoint_whose_hash_is_not_known_is_told_by_name() -> None:
    text = infotext.write(Txt2Img(checkpoint="pocket", width=64, height=64, seed=1), seed=1, model_hash="")
    assert "Model hash" not in text
    assert "Model: pocket" in text
