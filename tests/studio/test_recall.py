"""Infotexts back into the form. The texts are the WebUI's own, as section 5 of its behaviour tells."""

from __future__ import annotations

from typing import Any

from cloudbrush.domain import infotext
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.generation import HiresFix, Options, Refiner, Txt2Img, Variation
from cloudbrush.studio import settings_tab, values
from cloudbrush.studio.recall import Recalled, recall
from cloudbrush.studio.values import IMG2IMG, TXT2IMG
from tests import builders

SETTINGS = dict(zip(values.SETTING_PATHS, settings_tab.usual(), strict=True))
ASSETS = [builders.checkpoint("pocket"), builders.checkpoint("other")]
WEBUI = """a cat, (sitting:1.2)
Negative prompt: blurry
Steps: 33, Sampler: Euler a, CFG scale: 6, Seed: 5, Size: 256x192, Model hash: 0123456789, Model: other, \
Variation seed: 9, Variation seed strength: 0.2, Denoising strength: 0.4, Clip skip: 2, ENSD: 31337, \
Hires upscale: 1.5, Hires steps: 7, Hires upscaler: Lanczos, Refiner: pocket [0123456789], \
Refiner switch at: 0.6, Version: v1.10.1"""


def read(text: str, task: str = TXT2IMG, assets: list[ModelAsset] = ASSETS, **settings: Any) -> Recalled:
    return recall(task, text, {**SETTINGS, **settings}, assets)


def test_the_webuis_infotext_fills_every_field_it_tells() -> None:
    found = read(WEBUI)
    assert found.missing == ()
    assert (
        found.values.items()
        >= {
            "prompt": "a cat, (sitting:1.2)",
            "negative_prompt": "blurry",
            "checkpoint": "other",
            "clip_skip": 2,
            "sampler": "Euler a",
            "steps": 33,
            "cfg_scale": 6,
            "seed": 5,
            "width": 256,
            "height": 192,
            "variation": True,
            "variation.seed": 9,
            "variation.strength": 0.2,
            "hires": True,
            "hires.scale": 1.5,
            "hires.steps": 7,
            "hires.upscaler": "Lanczos",
            "hires.denoising_strength": 0.4,
            "refiner": True,
            "refiner.checkpoint": "pocket",
            "refiner.switch_at": 0.6,
        }.items()
    )
    assert found.values["overrides"] == ["ENSD: 31337"]


def test_what_it_does_not_tell_stays_as_it_is_but_switches_are_told() -> None:
    found = read("a cat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64").values
    assert "cfg_scale" not in found
    assert "hires.steps" not in found
    assert (found["hires"], found["refiner"], found["variation"]) == (False, False, False)
    assert found["overrides"] == []
    assert found["clip_skip"] == 1


def test_what_a_group_leaves_out_is_as_usual() -> None:
    hires = read("a cat\nSteps: 20, Sampler: Euler, Denoising strength: 0.5, Hires upscale: 2").values
    assert (hires["hires.sampler"], hires["hires.checkpoint"], hires["hires.prompt"]) == ("", "", "")
    assert (hires["hires.steps"], hires["hires.resize_width"]) == (0, 0)
    masked = read("a cat\nSteps: 20, Sampler: Euler, Seed: 1, Mask blur: 8", IMG2IMG).values
    assert (masked["inpainting.inverted"], masked["inpainting.fill"]) == (False, "original")


def test_a_plain_prompt_changes_nothing_but_the_prompts() -> None:
    assert read("just a cat").values == {"prompt": "just a cat", "negative_prompt": ""}


def test_a_setting_that_is_not_as_usual_is_overridden_by_what_is_told() -> None:
    text = "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64, Eta: 0.5, RNG: CPU"
    assert read(text).values["overrides"] == ["RNG: CPU", "Eta: 0.5"]
    told = read(text, **{"options.eta": 0.5, "noise_source": "CPU", "options.quantize": True})
    assert told.values["overrides"] == ["Quantized timesteps: False"]


def test_what_is_not_here_is_left_alone_and_said() -> None:
    found = read("a cat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64, Model: gone, VAE: gone.pt")
    assert "checkpoint" not in found.values
    assert "vae" not in found.values
    assert found.missing == ("Stable Diffusion checkpoint 'gone' is not here", "SD VAE 'gone' is not here")


def test_what_cannot_be_taken_is_left_out_and_said() -> None:
    found = read("a cat\nSteps: 9999, Sampler: Euler, Seed: 1, Size: 333x64")
    assert found.values["seed"] == 1
    assert "steps" not in found.values
    assert "width" not in found.values
    assert [words.partition(":")[0] for words in found.missing] == ["Sampling steps", "Width"]


def test_an_image_without_a_vae_needs_automatic_switched_off_only_where_it_would_find_one() -> None:
    text = "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64, Model: pocket"
    vae = ASSETS[0].model_copy(update={"kind": AssetKind.VAE, "name": "pocket.vae"})
    assert read(text).values["vae"] == "Automatic"
    assert read(text, assets=[*ASSETS, vae]).values["vae"] == "None"


def test_img2img_takes_what_is_its_own_and_not_the_denoising_of_hires_fix() -> None:
    text = """a cat
Steps: 20, Sampler: Euler, Seed: 1, Size: 64x64, Denoising strength: 0.3, Mask blur: 8, \
Mask mode: Inpaint not masked, Masked content: latent noise, Inpaint area: Only masked, \
Masked area padding: 16, Noise multiplier: 0.9"""
    found = read(text, IMG2IMG).values
    assert (
        found.items()
        >= {
            "denoising_strength": 0.3,
            "inpainting.blur": 8,
            "inpainting.inverted": True,
            "inpainting.fill": "latent noise",
            "inpainting.only_masked": True,
            "inpainting.padding": 16,
        }.items()
    )
    assert found["overrides"] == ["Noise multiplier: 0.9"]
    assert {"mode", "image", "inpainting.mask"}.isdisjoint(found)
    assert "denoising_strength" not in read(WEBUI, IMG2IMG).values


def test_a_generation_comes_back_whole_from_its_own_infotext() -> None:
    painted = Txt2Img(
        prompt="a cat",
        checkpoint="pocket",
        vae=None,
        width=128,
        height=64,
        seed=3,
        sampler="DPM++ SDE",
        schedule="Exponential",
        hires=HiresFix(resize_width=256, sampler="Euler", prompt="a dog", checkpoint="other"),
        refiner=Refiner(checkpoint="other"),
        variation=Variation(seed=4, strength=0.5, from_width=64, from_height=64),
        options=Options(eta=0.5, emphasis="No norm", discard_penultimate=True),
        noise_source="CPU",
        clip_skip=2,
    )
    text = infotext.write(painted, seed=3, variation_seed=4, model_hash="")
    found = read(text)
    assert found.missing == ()
    again = values.generation(TXT2IMG, found.values)
    assert again == painted.model_copy(update={"vae": "Automatic"})
