"""Pictures as people hand them in, masks, and what is put back afterwards."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import Inpainting
from cloudbrush.engine import inpainting, pictures

MASK_ID = "0" * 64


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert pictures.read_picture(file_of(image)).getpixel((0, 0)) == (255, 255, 255)


def test_a_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0] + [0] * 765)
    assert pictures.read_picture(file_of(image, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    data = file_of(Image.new("RGB", (16, 8)), "JPEG", exif=exif)
    assert pictures.read_picture(data).size == (8, 16)


def test_sixteen_bits_of_grey_become_eight() -> None:
    image = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert pictures.read_picture(file_of(image)).getpixel((0, 0)) == (128, 128, 128)


def test_a_mask_is_its_alpha_where_it_has_any() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 200))
    image.putpixel((0, 0), (255, 255, 255, 128))
    mask = pictures.read_mask(file_of(image))
    assert (mask.getpixel((0, 0)), mask.getpixel((1, 1))) == (0, 255)


def test_and_its_brightness_where_it_has_none() -> None:
    mask = pictures.read_mask(file_of(Image.new("RGB", (8, 8), (255, 255, 255))))
    assert (mask.mode, mask.getpixel((0, 0))) == ("L", 255)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 40,
        file_of(Image.new("RGB", (64, 64)))[:-40],
        file_of(Image.new("RGB", (64, 4))),
    ],
)
def test_what_is_no_picture_is_refused_by_its_field(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        pictures.read_picture(data)
    assert refused.value.field == "image"


def stripes(width: int, height: int) -> Image.Image:
    """Red left third, green middle, blue right."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    return Image.fromarray(np.repeat(colours[np.arange(width) * 3 // width][None], height, axis=0))


def test_cropping_keeps_the_middle() -> None:
    found = pictures.cropped(stripes(192, 64), 64, 64)
    assert found.size == (64, 64)
    assert found.getpixel((32, 32)) == (0, 255, 0)
    assert found.getpixel((4, 32)) == (0, 255, 0)


def test_filling_keeps_all_and_draws_out_the_edges() -> None:
    found = pictures.filled(stripes(64, 64), 192, 64)
    assert found.size == (192, 64)
    assert [found.getpixel((x, 32)) for x in (0, 60, 96, 140, 191)] == [
        (255, 0, 0),
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (0, 0, 255),
    ]
    tall = pictures.filled(stripes(64, 64), 64, 192)
    assert tall.getpixel((32, 0)) == tall.getpixel((32, 191)) == (0, 255, 0)


def box_mask(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, box)
    return mask


def test_a_blur_of_nothing_changes_nothing() -> None:
    mask = box_mask(64, 64, (16, 16, 48, 48))
    assert inpainting.blurred(mask, 0) is mask


def test_a_blur_is_a_gaussian_cut_off_at_two_and_a_half_sigmas() -> None:
    """An edge under a Gaussian kernel of radius int(2.5 * 4 + 0.5) = 10."""
    found = np.asarray(inpainting.blurred(box_mask(64, 64, (32, 0, 64, 64)), 4))[32].astype(int)
    kernel = np.exp(-(np.arange(-10, 11) ** 2) / (2 * 4**2))
    kernel /= kernel.sum()
    expected = [round(255 * kernel[max(0, 10 + 32 - x) :].sum()) for x in range(22, 32)]
    assert found[22:32].tolist() == expected
    assert found[21] == 0
    assert found[42] == 255


def prepared(mask: Image.Image, size: tuple[int, int], **how: object) -> inpainting.Painting | None:
    asked = Inpainting(mask=MASK_ID, **{"blur": 0, **how})
    return inpainting.prepare(stripes(192, 96), mask, asked, size, pictures.just_resized)


def test_only_masked_paints_a_padded_region_of_the_sizes_shape() -> None:
    painting = prepared(box_mask(192, 96, (90, 40, 100, 50)), (64, 64), only_masked=True, padding=10)
    assert painting.overlay.region == (80, 30, 110, 60)
    assert painting.picture.size == painting.mask.size == (64, 64)


def test_a_region_is_stretched_to_the_shape_that_is_painted_and_kept_inside() -> None:
    painting = prepared(box_mask(192, 96, (0, 0, 20, 20)), (128, 64), only_masked=True, padding=0)
    assert painting.overlay.region == (0, 0, 40, 20)
    painting = prepared(box_mask(192, 96, (100, 0, 110, 96)), (64, 64), only_masked=True, padding=0)
    assert painting.overlay.region == (57, 0, 153, 96)


def test_only_masked_without_a_mask_paints_nothing_special() -> None:
    assert prepared(Image.new("L", (192, 96)), (64, 64), only_masked=True) is None


def test_what_is_not_masked_comes_back_exactly() -> None:
    painting = prepared(box_mask(192, 96, (0, 0, 96, 96)), (192, 96))
    result = painting.overlay.over(Image.new("RGB", (192, 96), (9, 9, 9)))
    pixels, before = np.asarray(result), np.asarray(stripes(192, 96))
    assert (pixels[:, :96] == 9).all()
    assert np.array_equal(pixels[:, 96:], before[:, 96:])


def test_an_inverted_mask_paints_the_rest() -> None:
    painting = prepared(box_mask(192, 96, (0, 0, 96, 96)), (192, 96), inverted=True)
    pixels = np.asarray(painting.overlay.over(Image.new("RGB", (192, 96), (9, 9, 9))))
    assert (pixels[:, 96:] == 9).all()
    assert np.array_equal(pixels[:, :96], np.asarray(stripes(192, 96))[:, :96])


def test_a_painted_region_is_put_where_it_was() -> None:
    mask = box_mask(192, 96, (80, 30, 110, 60))
    painting = prepared(mask, (64, 64), only_masked=True, padding=0)
    pixels = np.asarray(painting.overlay.over(Image.new("RGB", (64, 64), (9, 9, 9))))
    inside = np.asarray(mask) > 0
    assert (pixels[inside] == 9).all()
    assert np.array_equal(pixels[~inside], np.asarray(stripes(192, 96))[~inside])


def test_filling_takes_colours_from_around() -> None:
    """The masked middle (green) is between red and blue; what fills it is neither green nor black."""
    mask = box_mask(192, 96, (64, 0, 128, 96))
    filled = np.asarray(inpainting.with_blurred_filling(stripes(192, 96), mask)).astype(int)
    red, green, blue = filled[48, 70]
    assert red > 150
    assert green < 30
    assert blue < 100
    assert np.array_equal(filled[:, :60], np.asarray(stripes(192, 96))[:, :60])


def test_masks_are_rounded_at_the_latents() -> None:
    mask = box_mask(64, 64, (0, 0, 32, 64))
    found = inpainting.at_latents(mask, 8, 8)
    assert found.tolist() == [[1.0] * 4 + [0.0] * 4] * 8
