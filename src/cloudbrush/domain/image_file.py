"""Image files: what they are, and the infotext inside (specification 5.2)."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict

from cloudbrush.domain.errors import InvalidInput

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64 * 10**6
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
FORMATS = tuple(MEDIA_TYPES)
PARAMETERS = "parameters"  # the key of the infotext in PNG files
_EXIF_TURN = (5, 6, 7, 8)  # orientations that exchange width and height
_UNICODE = b"UNICODE\x00"  # says how an EXIF comment is encoded
_ASCII = b"ASCII\x00\x00\x00"
_PLAIN = frozenset(b"\t\n\r") | frozenset(range(32, 127))
_MOST_EXIF = 65_533  # bytes in the one segment a JPEG has for it


class Picture(BaseModel):
    """What an image file is, as people see it: turned the way its EXIF data say."""

    model_config = ConfigDict(frozen=True)

    id: str  # SHA-256 of the file
    format: str  # one of `FORMATS`
    width: int  # pixels
    height: int
    infotext: str  # empty: none inside


def describe(data: bytes) -> Picture:
    """What an image file is; raises `InvalidInput` for what is none, or is too large."""
    with _opened(data) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in _EXIF_TURN:
            width, height = height, width
        return Picture(
            id=hashlib.sha256(data).hexdigest(),
            format=image.format or "",
            width=width,
            height=height,
            infotext=_infotext(image),
        )


def read_infotext(data: bytes) -> str:
    """The infotext in an image file, or an empty text; an EXIF comment goes before a PNG's text."""
    with _opened(data) as image:
        return _infotext(image)


def save(image: Image.Image, infotext: str, format: str = "PNG", quality: int = 80) -> bytes:
    """The image as a file of one of `FORMATS` with its infotext inside.

    Raises `InvalidInput` for an infotext that is longer than a JPEG's EXIF data may be.
    """
    buffer = io.BytesIO()
    if format == "PNG":
        info = PngInfo()
        info.add_text(PARAMETERS, infotext)
        image.save(buffer, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + infotext.encode("utf-16-be")
        data = exif.tobytes()
        if format == "JPEG" and len(data) > _MOST_EXIF:
            raise InvalidInput(
                f"the parameters of {len(infotext)} letters do not fit into a JPEG",
                field="format",
                hint="Save it as PNG or WebP.",
            )
        image.convert("RGB").save(buffer, format, quality=quality, exif=data)
    return buffer.getvalue()


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image of a file with only its header read; raises `InvalidInput`."""
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"the image has {len(data)} bytes; {MAX_BYTES} are allowed", field="image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise InvalidInput(
            "this is no image that can be read", field="image", hint="Use a PNG, JPEG or WebP file."
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(
            f"the image has {image.width}x{image.height} pixels; {MAX_PIXELS // 10**6} million are allowed",
            field="image",
            hint="Make it smaller first.",
        )
    yield image


def _infotext(image: Image.Image) -> str:
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if isinstance(comment, bytes) and (text := _comment_text(comment)):
        return text
    text = image.info.get(PARAMETERS, "")
    return text if isinstance(text, str) else ""


def _comment_text(comment: bytes) -> str:
    """An EXIF comment: eight bytes that name its encoding, then text; UTF-16 may be in either byte order."""
    kind, text = comment[:8], comment[8:]
    if kind == _UNICODE:
        order = "utf-16-le" if _little_endian(text) else "utf-16-be"
        return text.decode(order, errors="replace").strip("\x00")
    return text.decode("utf-8", errors="replace").strip("\x00") if kind in (_ASCII, bytes(8)) else ""


def _little_endian(text: bytes) -> bool:
    """Whether more plain ASCII comes of it in that order; the WebUI writes the other one."""
    plain = [sum(high == 0 and low in _PLAIN for high, low in pairs) for pairs in _pairs(text)]
    return plain[1] > plain[0]


def _pairs(text: bytes) -> tuple[Iterable[tuple[int, int]], Iterable[tuple[int, int]]]:
    """High and low bytes of UTF-16, read as big-endian and as little-endian."""
    return zip(text[::2], text[1::2], strict=False), zip(text[1::2], text[::2], strict=False)
