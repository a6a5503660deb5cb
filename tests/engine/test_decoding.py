"""Eight bits, PNG and previews."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from cloudbrush.engine.decoding import to_image, to_png
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models.checkpoint import Placement
from cloudbrush.engine.models.single_file import load_single_file
from cloudbrush.engine.preview import Preview


def test_pixels_are_cut_off_not_rounded() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 2.0])
    image = to_image(values.expand(3, 1, 6))
    assert [image.getpixel((x, 0))[0] for x in range(6)] == [0, 0, 127, 254, 255, 255]


@pytest.mark.parametrize("infotext", ["plain", "Ünïcode 日本語 😀", "two\nlines", ""])
def test_the_infotext_comes_back_from_the_png(infotext: str) -> None:
    png = to_png(Image.new("RGB", (8, 8)), infotext)
    assert Image.open(io.BytesIO(png)).text["parameters"] == infotext


class LinearVae:
    """An autoencoder whose latents are a linear map of the colours."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix

    def encode(self, images: torch.Tensor):
        small = torch.nn.functional.avg_pool2d(images, 8)
        latents = torch.einsum("bchw,cz->bzhw", small, self.matrix) + 0.25
        latents[:, :, 0] -= 3  # edges that look different, as padding makes them
        latents[:, :, :, -1] *= 0.5

        class Encoded:
            class latent_dist:
                mean = latents

        return Encoded


def test_a_preview_inverts_a_linear_autoencoder() -> None:
    matrix = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    class Checkpoint:
        placement = Placement(torch.device("cpu"))
        downscale = 8
        vae = LinearVae(matrix)
        latent_scale = 0.5

    preview = Preview.fit(Checkpoint)
    colour = torch.tensor([0.9, -0.5, 0.1])
    latents = ((colour @ matrix + 0.25) * 0.5)[:, None, None].repeat(1, 16, 8)
    latents[:, 0] -= 1.5
    latents[:, :, -1] *= 0.5
    image = Image.open(io.BytesIO(preview.jpeg(latents)))
    assert image.size == (128, 256)
    expected = ((colour + 1) * 127.5).tolist()
    for place in ((60, 120), (2, 2), (126, 2), (60, 2), (126, 250)):
        assert image.getpixel(place) == pytest.approx(expected, abs=6)


def test_a_preview_is_small(tiny: ModelFile) -> None:
    checkpoint = load_single_file(tiny.path, name="", sha256="", placement=Placement(torch.device("cpu")))
    jpeg = Preview.fit(checkpoint).jpeg(torch.randn(4, 64, 96))
    assert Image.open(io.BytesIO(jpeg)).size == (256, 171)
    assert len(jpeg) < 40_000
