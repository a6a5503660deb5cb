"""Networks, words and VAE files through the whole engine: they act while asked for, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloudbrush.domain import infotext
from cloudbrush.engine import Broke, Engine, ModelFile, Models
from tests.engine.conftest import Shape
from tests.engine.listening import Listener, generation
from tests.engine.networks.files import lora_for, rand, write

Paint = Callable[..., list[Listener]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    folder = tmp_path_factory.mktemp("networks")
    unet, _, text = Shape().modules()
    width = Shape().text_width
    hypernetwork = {
        f"{width}.{part}.linear.0.{what}": rand(*shape, seed=seed)
        for seed, part in enumerate("kv")
        for what, shape in (("weight", (width, width)), ("bias", (width,)))
    }
    vae = {
        key.removeprefix("first_stage_model."): tensor
        for key, tensor in Shape().weights(seed=5).items()
        if key.startswith("first_stage_model.")
    }
    groups = {"cloudbrush.vae_norm_groups": str(Shape().groups)}
    layers = {"layer_structure": "[1, 1]", "activation_func": "linear", "name": "style"}
    return {
        "paint": write(folder / "paint.safetensors", lora_for(unet, "lora_unet_")),
        "other": write(folder / "other.safetensors", lora_for(unet, "lora_unet_", seed=9)),
        "words": write(folder / "words.safetensors", lora_for(text, "lora_te_text_model_")),
        "style": write(folder / "style.safetensors", hypernetwork, layers),
        "zorp": write(folder / "zorp.safetensors", {"emb_params": 3 * rand(2, width)}),
        "soft": write(folder / "soft.safetensors", vae, groups),
    }


@pytest.fixture
def paint_with(engine: Engine, tiny: ModelFile, files: dict[str, ModelFile]) -> Paint:
    models = Models(
        tiny,
        loras=(files["paint"], files["other"], files["words"]),
        hypernetworks=(files["style"],),
        embeddings=(files["zorp"],),
    )

    def paint(*prompts: str, vae: str | None = None, **fields: Any) -> list[Listener]:
        listeners = [Listener() for _ in prompts]
        with_vae = Models(**{**vars(models), "vae": files[vae] if vae else None})
        for prompt, listener in zip(prompts, listeners, strict=True):
            engine.submit(generation(prompt=prompt, vae=vae, **fields), with_vae, listener)
        for listener in listeners:
            listener.wait()
        return listeners

    return paint


@pytest.mark.parametrize("tag", ["<lora:paint:1>", "<lyco:paint:1>", "<lora:words:1>", "<hypernet:style:1>"])
def test_a_network_changes_the_image_while_it_is_asked_for(paint_with: Paint, tag: str) -> None:
    (before,) = paint_with("a cat")
    (asked,) = paint_with(f"a cat{tag}")
    (after,) = paint_with("a cat")
    assert not np.array_equal(asked.pixels, before.pixels)
    assert after.images[0].png == before.images[0].png


@pytest.mark.parametrize("tag", ["<lora:paint:0>", "<hypernet:style:0>", "<lora:words:1:unet=1:te=0>"])
def test_a_multiplier_of_zero_is_none(paint_with: Paint, tag: str) -> None:
    (without,) = paint_with("a cat")
    (asked,) = paint_with(f"a cat{tag}")
    assert np.array_equal(asked.pixels, without.pixels)


def test_jobs_with_different_networks_painted_together_equal_each_alone(paint_with: Paint) -> None:
    prompts = ("a cat", "a cat<lora:paint:1>", "a cat<lora:other:0.7>", "a cat<hypernet:style:1>", "a zorp")
    alone = [paint_with(prompt)[0].pixels for prompt in prompts]
    together = [listener.pixels for listener in paint_with(*prompts)]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1
    assert len({pixels.tobytes() for pixels in alone}) == len(prompts)


def test_an_embeddings_word_works_in_either_prompt(paint_with: Paint) -> None:
    plain, word, negative = (
        paint_with("a cat")[0].pixels,
        paint_with("a cat, Zorp")[0].pixels,
        paint_with("a cat", negative_prompt="zorp")[0].pixels,
    )
    assert not np.array_equal(plain, word)
    assert not np.array_equal(plain, negative)


def test_a_named_vae_changes_the_decoding_and_stays_out_of_other_runs(paint_with: Paint) -> None:
    (own,) = paint_with("a cat")
    (named,) = paint_with("a cat", vae="soft")
    (after,) = paint_with("a cat")
    assert not np.array_equal(own.pixels, named.pixels)
    assert after.images[0].png == own.images[0].png


def test_the_infotext_names_what_was_used(paint_with: Paint, files: dict[str, ModelFile]) -> None:
    (listener,) = paint_with("a zorp<lora:paint:1>", vae="soft")
    fields = infotext.parse(listener.images[0].infotext)
    assert fields["Prompt"] == "a zorp<lora:paint:1>"
    assert fields["Lora hashes"].startswith("paint: ")
    assert fields["TI hashes"].startswith("zorp: ")
    assert (fields["VAE"], fields["VAE hash"]) == ("soft.safetensors", files["soft"].sha256[:10])


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("a cat<lora:nowhere:1>", "nowhere"), ("a cat<lora:paint:much>", "much"), ("<glow:x:1>", "glow")],
)
def test_a_tag_that_cannot_be_followed_is_named(paint_with: Paint, prompt: str, said: str) -> None:
    (listener,) = paint_with(prompt)
    broke = listener.wait(Broke)
    assert isinstance(broke, Broke)
    assert broke.error.field == "prompt"
    assert said in broke.error.detail


def test_a_lora_of_another_family_is_refused_by_name(engine: Engine, tiny: ModelFile, tmp_path: Path) -> None:
    foreign = {
        f"lora_unet_nothing_of_ours.{part}.weight": torch.ones(2, 2) for part in ("lora_up", "lora_down")
    }
    listener = Listener()
    models = Models(tiny, loras=(write(tmp_path / "foreign.safetensors", foreign),))
    engine.submit(generation(prompt="a cat<lora:foreign:1>"), models, listener)
    broke = listener.wait(Broke)
    assert isinstance(broke, Broke)
    assert "foreign" in broke.error.detail
