"""Painting over pictures: how far, how many steps, and what stays (specification 3.2, 3.5)."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cloudbrush.domain.generation import Img2Img, Inpainting, Options
from cloudbrush.domain.sampling import SAMPLERS
from cloudbrush.engine import Engine, ModelFile, Models
from cloudbrush.engine.decoding import decode
from cloudbrush.engine.encoding import encode, to_pixels
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.models.single_file import load_single_file
from tests.engine.conftest import Shape, save
from tests.engine.listening import Listener, generation

SIDE = 64


def file_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PICTURE = Image.fromarray(
    np.kron(np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
)
HALF = Image.new("L", (SIDE, SIDE))
HALF.paste(255, (0, 0, SIDE // 2, SIDE))
FILES = {digest(data): data for data in (file_of(PICTURE), file_of(HALF))}
PICTURE_ID, MASK_ID = FILES


def over(**fields: Any) -> Img2Img:
    plain = generation().model_dump(exclude={"task", "hires"})
    return Img2Img(**{**plain, "image": PICTURE_ID, **fields})


def masked(**how: Any) -> Inpainting:
    return Inpainting(mask=MASK_ID, **{"blur": 0, **how})


@pytest.fixture(scope="module")
def checkpoint(tiny: ModelFile) -> Checkpoint:
    return load_single_file(tiny.path, name="tiny", sha256="", placement=Placement(torch.device("cpu")))


@pytest.fixture
def repaint(engine: Engine, tiny: ModelFile) -> Any:
    def repaint(asked: Img2Img, model: ModelFile = tiny) -> Listener:
        listener = Listener()
        engine.submit(asked, Models(model, pictures=FILES), listener)
        listener.wait()
        return listener

    return repaint


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int16)


@pytest.mark.parametrize(
    ("steps", "strength", "exactly", "taken"),
    [(20, 0.75, False, 16), (20, 1.0, False, 20), (20, 0.3, False, 7), (4, 0.5, True, 4), (20, 0.0, True, 0)],
)
def test_steps_follow_the_denoising_strength(
    repaint, steps: int, strength: float, exactly: bool, taken: int
) -> None:
    """t_enc + 1 of int(strength * steps), the strength being 0.999 at most; or as many as asked for."""
    asked = over(steps=steps, denoising_strength=strength, fix_steps=exactly, sampler="Euler")
    told = [event.step for event in repaint(asked).steps]
    assert told == list(range(1, taken + 1))


def test_without_steps_the_picture_goes_through_the_autoencoder_only(repaint, checkpoint: Checkpoint) -> None:
    listener = repaint(over(denoising_strength=0, fix_steps=True, seed=4))
    expected = decode(checkpoint, encode(checkpoint, to_pixels(PICTURE)).sample(4))
    assert np.abs(listener.pixels[0] - pixels(expected)).max() <= 1


def test_the_less_is_denoised_the_more_of_the_picture_stays(repaint, checkpoint: Checkpoint) -> None:
    round_trip = pixels(decode(checkpoint, encode(checkpoint, to_pixels(PICTURE)).mean))
    away = [
        np.abs(repaint(over(denoising_strength=s, steps=20)).pixels[0] - round_trip).mean()
        for s in (0.1, 0.5, 1.0)
    ]
    assert away == sorted(away)


@pytest.mark.parametrize("sampler", [sampler.name for sampler in SAMPLERS])
def test_every_sampler_paints_over_and_a_batch_equals_its_images_alone(repaint, sampler: str) -> None:
    batch = repaint(over(sampler=sampler, steps=6, batch_size=2, seed=5)).pixels
    alone = [repaint(over(sampler=sampler, steps=6, seed=5 + k)).pixels[0] for k in range(2)]
    assert np.abs(batch - np.stack(alone)).max() <= 1
    assert (batch[0] != batch[1]).any()


@pytest.mark.parametrize(
    "sampler", ["Euler a", "DPM++ 2M", "DPM++ SDE", "DDIM", "DDIM CFG++", "UniPC", "LCM"]
)
@pytest.mark.parametrize("fill", ["fill", "original", "latent noise", "latent nothing"])
def test_what_is_not_masked_stays_to_the_bit(repaint, sampler: str, fill: str) -> None:
    asked = over(sampler=sampler, steps=6, denoising_strength=1.0, inpainting=masked(fill=fill))
    (found,) = repaint(asked).pixels
    assert np.array_equal(found[:, SIDE // 2 :], pixels(PICTURE)[:, SIDE // 2 :])
    assert (found[:, : SIDE // 2] != pixels(PICTURE)[:, : SIDE // 2]).any()


def test_fills_differ(repaint) -> None:
    images = [
        repaint(over(denoising_strength=0.5, inpainting=masked(fill=fill))).pixels
        for fill in ("fill", "original", "latent noise", "latent nothing")
    ]
    for position, image in enumerate(images):
        assert all((image != other).any() for other in images[position + 1 :])


def test_only_masked_keeps_the_pictures_own_size(repaint) -> None:
    listener = repaint(over(width=128, height=128, inpainting=masked(only_masked=True, padding=0)))
    (image,) = listener.images
    assert (image.width, image.height) == (SIDE, SIDE)
    assert np.array_equal(listener.pixels[0][:, SIDE // 2 :], pixels(PICTURE)[:, SIDE // 2 :])


@pytest.mark.parametrize(
    "mode", ["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]
)
def test_every_resize_mode_paints_the_size_asked_for(repaint, mode: str) -> None:
    (image,) = repaint(over(width=128, resize_mode=mode, steps=2)).images
    assert (image.width, image.height) == (128, 64)


def test_noise_multiplier_and_extra_noise_count(repaint) -> None:
    images = [
        repaint(asked).pixels
        for asked in (over(), over(noise_multiplier=0.8), over(options=Options(extra_noise=0.3)))
    ]
    assert (images[0] != images[1]).any()
    assert (images[0] != images[2]).any()


def test_an_inpainting_checkpoint_sees_mask_and_masked_picture(repaint, tmp_path) -> None:
    """Its denoiser takes nine channels; a weight of the mask of 0 shows it the whole picture."""
    weights = Shape().weights()
    first = "model.diffusion_model.input_blocks.0.0.weight"
    torch.manual_seed(9)
    weights[first] = torch.cat([weights[first], 0.3 * torch.randn(weights[first].shape[0], 5, 3, 3)], dim=1)
    model = save(tmp_path / "inpainting.safetensors", weights, Shape().all_metadata())
    one = repaint(over(inpainting=masked()), model).pixels
    shown = repaint(over(inpainting=masked(mask_weight=0.0)), model).pixels
    assert (one != shown).any()
    assert np.array_equal(one[0][:, SIDE // 2 :], pixels(PICTURE)[:, SIDE // 2 :])
    assert repaint(over(), model).images


def test_a_picture_that_is_not_there_is_named(engine: Engine, tiny: ModelFile) -> None:
    listener = Listener()
    engine.submit(over(), Models(tiny), listener)
    assert listener.wait().error.field == "image"
