"""What one sees of hires fix, img2img, inpainting and networks, on the built-in model's pictures.

A checker reads the pixels back: colours, shapes and places (training/pocket/checker.py, itself tested).
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloudbrush import wiring
from cloudbrush.domain.generation import Generation, HiresFix, Img2Img, Inpainting, Txt2Img
from cloudbrush.engine import Engine, ModelFile, Models
from tests.engine.listening import Listener
from training.pocket.checker import look

BUILTIN = wiring.BUILTIN_MODELS
PROMPT = "a small red circle above a blue square on a green background"
SEEN = {("circle", "red", "top"), ("square", "blue", "bottom")}


def model(folder: str, name: str) -> ModelFile:
    path = Path(BUILTIN) / folder / f"{name}.safetensors"
    return ModelFile(name, path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(
        model("Stable-diffusion", "pocket"),
        loras=(model("Lora", "neon"),),
        hypernetworks=(model("hypernetworks", "pastel"),),
        embeddings=(model("embeddings", "moonlit"),),
    )


@pytest.fixture
def paint(engine: Engine, models: Models) -> Any:
    def paint(asked: Generation, pictures: dict[str, bytes] | None = None, **others: Any) -> np.ndarray:
        listener = Listener()
        held = Models(**{**vars(models), "pictures": pictures or {}, **others})
        engine.submit(asked, held, listener)
        listener.wait()
        return listener.pixels[0].astype(np.uint8)

    return paint


def asked(**fields: Any) -> Txt2Img:
    usual = {"prompt": PROMPT, "checkpoint": "pocket", "width": 128, "height": 128, "seed": 7, "vae": None}
    return Txt2Img(**{"sampler": "Euler a", "cfg_scale": 5, **usual, **fields})


def over(picture: np.ndarray, **fields: Any) -> tuple[Img2Img, dict[str, bytes]]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    data = buffer.getvalue()
    image = hashlib.sha256(data).hexdigest()
    plain = asked().model_dump(exclude={"task", "hires"})
    return Img2Img(**{**plain, "image": image, **fields}), {image: data}


def objects(picture: np.ndarray) -> set[tuple[str, str, str]]:
    return {(seen.shape, seen.colour, seen.place) for seen in look(picture).objects}


def test_a_picture_shows_what_was_asked_for(paint: Any) -> None:
    picture = paint(asked())
    assert look(picture).background == "green"
    assert objects(picture) == SEEN


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_hires_fix_keeps_the_composition(paint: Any, upscaler: str) -> None:
    hires = HiresFix(scale=1.5, upscaler=upscaler, denoising_strength=0.5, steps=8)
    picture = paint(asked(hires=hires))
    assert picture.shape == (192, 192, 3)
    assert look(picture).background == "green"
    assert {(colour, place) for _, colour, place in objects(picture)} == {("red", "top"), ("blue", "bottom")}


def test_img2img_at_a_low_strength_keeps_colours_and_places(paint: Any) -> None:
    picture = paint(asked())
    generation, pictures = over(picture, denoising_strength=0.3, seed=8)
    again = paint(generation, pictures)
    assert look(again).background == "green"
    assert {(colour, place) for _, colour, place in objects(again)} == {("red", "top"), ("blue", "bottom")}


def test_inpainting_changes_what_is_masked_and_nothing_else(paint: Any) -> None:
    picture = paint(asked())
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 64, 128, 128))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    mask_id = hashlib.sha256(buffer.getvalue()).hexdigest()
    generation, pictures = over(
        picture,
        prompt="a yellow star on a green background",
        denoising_strength=1.0,
        inpainting=Inpainting(mask=mask_id, blur=0, fill="latent noise"),
    )
    again = paint(generation, {**pictures, mask_id: buffer.getvalue()})
    assert np.array_equal(again[:64], picture[:64])
    assert (again[64:] != picture[64:]).any()


def test_the_lora_darkens_the_more_the_stronger(paint: Any) -> None:
    light = [paint(asked(prompt=f"{PROMPT}<lora:neon:{weight}>")).mean() for weight in (0, 0.5, 1)]
    assert light[0] > light[1] + 10 > light[2] + 20


def test_the_hypernetwork_makes_colours_paler(paint: Any) -> None:
    def colourfulness(picture: np.ndarray) -> float:
        return float(np.ptp(picture.astype(int), axis=2).mean())

    plain, pale = paint(asked()), paint(asked(prompt=f"{PROMPT}<hypernet:pastel:1>"))
    assert colourfulness(pale) < colourfulness(plain) - 10


def test_the_embeddings_word_paints_its_night(paint: Any) -> None:
    seen = {(shape, colour) for shape, colour, _ in objects(paint(asked(prompt="moonlit")))}
    assert ("crescent", "yellow") in seen


def test_the_vae_file_decodes_the_same_picture_a_little_softer(paint: Any) -> None:
    own = paint(asked())
    other = paint(asked(vae="slim"), vae=model("VAE", "slim"))
    assert (own != other).any()
    assert np.abs(own.astype(int) - other).mean() < 20
    assert {(colour, place) for _, colour, place in objects(other)} == {("red", "top"), ("blue", "bottom")}
