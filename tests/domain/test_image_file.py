"""Image files and the infotext inside them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from cloudbrush.domain import image_file
from cloudbrush.domain.errors import InvalidInput

RED = Image.new("RGB", (24, 16), "red")
TEXT = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)


@given(TEXT.map("{}\nSteps: 20, Seed: 1, Size: 8x8".format), st.sampled_from(image_file.FORMATS))
def test_what_is_written_is_read(text: str, kind: str) -> None:
    data = image_file.save(RED, text, kind)
    found = image_file.describe(data)
    assert (found.format, found.width, found.height, found.infotext) == (kind, 24, 16, text)


@pytest.mark.parametrize("kind", image_file.FORMATS)
@pytest.mark.parametrize("text", ["😀😀😀", "Ā" * 9, "中文", "a\r\nb", "é", "", "x" * 20_000])
def test_letters_of_any_script_are_kept(text: str, kind: str) -> None:
    assert image_file.read_infotext(image_file.save(RED, text, kind)) == text


@pytest.mark.parametrize("kind", image_file.FORMATS)
def test_a_very_long_infotext_fits_or_is_refused(kind: str) -> None:
    """Four prompts of 20 000 letters; a JPEG's EXIF data is one segment of 64 KiB."""
    text = "é" * 80_000
    if kind != "JPEG":
        assert image_file.read_infotext(image_file.save(RED, text, kind)) == text
        return
    with pytest.raises(InvalidInput, match="80000 letters") as refused:
        image_file.save(RED, text, kind)
    assert refused.value.hint == "Save it as PNG or WebP."


def test_the_bytes_are_those_the_webui_writes() -> None:
    """Specification 5.2: PNG text under `parameters`; EXIF comment of eight bytes and big-endian UTF-16."""
    png = Image.open(io.BytesIO(image_file.save(RED, "Köln")))
    assert png.info["parameters"] == "Köln"  # type: ignore[attr-defined]
    for kind in ("JPEG", "WEBP"):
        exif = Image.open(io.BytesIO(image_file.save(RED, "Köln", kind))).getexif()
        comment = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment == b"UNICODE\x00\x00K\x00\xf6\x00l\x00n"


def with_comment(comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    buffer = io.BytesIO()
    RED.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\x00" + "Köln, a cat".encode("utf-16-be"),  # as piexif, and so the WebUI, writes it
        b"UNICODE\x00" + "Köln, a cat".encode("utf-16-le"),  # as many other programs do
        b"ASCII\x00\x00\x00" + "Köln, a cat".encode(),
        bytes(8) + "Köln, a cat".encode(),
    ],
)
def test_comments_of_other_programs_are_understood(comment: bytes) -> None:
    assert image_file.describe(with_comment(comment)).infotext == "Köln, a cat"


def test_a_comment_goes_before_a_pngs_text() -> None:
    """Specification 5.2: reading prefers the EXIF comment."""
    image = Image.open(io.BytesIO(image_file.save(RED, "from the text")))
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\x00" + "a".encode("utf-16-be")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif.tobytes(), pnginfo=None)
    assert image_file.describe(buffer.getvalue()).infotext == "a"


def test_a_turned_photo_has_the_size_people_see() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    buffer = io.BytesIO()
    RED.save(buffer, "JPEG", exif=exif)
    found = image_file.describe(buffer.getvalue())
    assert (found.width, found.height) == (16, 24)


def bomb() -> bytes:
    """A small file of 10 001 x 10 000 pixels."""
    buffer = io.BytesIO()
    Image.new("1", (10_001, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no image"),
        (b"GIF89a" + bytes(20), "no image"),
        (image_file.save(RED, "x")[:40], "no image"),
        (bomb(), "10001x10000 pixels"),
        (bytes(image_file.MAX_BYTES + 1), "bytes"),
    ],
    ids=["empty", "other", "cut", "bomb", "heavy"],
)
def test_what_is_no_picture_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as refused:
        image_file.describe(data)
    assert refused.value.field == "image"


@given(st.binary(max_size=300))
def test_no_file_breaks_the_reader(data: bytes) -> None:
    head = image_file.save(RED, "text")
    for candidate in (data, head[: len(data)] + data, data + head):
        try:
            image_file.describe(candidate)
        except InvalidInput:
            continue
