"""Pictures of the page as files: what the boxes hold, handed in to the control plane and fetched again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.processing_utils import save_bytes_to_cache
from PIL import Image, ImageChops

from cloudbrush.client import Client
from cloudbrush.domain.generation import paintable
from cloudbrush.domain.image_file import MEDIA_TYPES, describe
from cloudbrush.studio.values import INPAINT, UPLOAD


@dataclass(frozen=True)
class Boxes:
    """What the picture boxes of the img2img tab hold; None where there is nothing."""

    image: str | None = None  # paths
    editor: Mapping[str, Any] | None = None  # background and layers as images
    base: str | None = None
    mask: str | None = None

    def files(self, mode: str) -> tuple[bytes | None, bytes | None]:
        """Picture and mask that count in a mode; of what is missing, None."""
        if mode == INPAINT:
            return _painted(self.editor or {})
        if mode == UPLOAD:
            return _read(self.base), _read(self.mask)
        return _read(self.image), None


async def hand_in(client: Client, boxes: Boxes, mode: str) -> tuple[str, str]:
    """The ids of picture and mask, handed in; empty where there is none. Raises `InvalidInput`."""
    picture, mask = boxes.files(mode)
    ids = [(await client.add_picture(data)).id if data else "" for data in (picture, mask)]
    return ids[0], ids[1]


async def fetch(client: Client, cache: str, picture_id: str) -> str:
    """The file of a picture that was handed in. Raises `NotFound`."""
    data = await client.picture(picture_id)
    ending = MEDIA_TYPES[describe(data).format].removeprefix("image/")
    return str(save_bytes_to_cache(data, f"picture.{ending}", cache))


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels that a picture can be painted at. Raises `InvalidInput`."""
    picture = describe(data)
    return paintable(picture.width), paintable(picture.height)


def unpainted(path: str) -> dict[str, Any]:
    """A picture as the editor takes it, with nothing painted over it."""
    return {"background": path, "layers": [], "composite": None}


def _read(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _painted(editor: Mapping[str, Any]) -> tuple[bytes | None, bytes | None]:
    """The picture in the editor, and as its mask all that was painted over it."""
    background: Image.Image | None = editor.get("background")
    if background is None:
        return None, None
    mask = Image.new("L", background.size)
    for layer in editor.get("layers") or ():
        mask = ImageChops.lighter(mask, layer.getchannel("A").resize(background.size))
    return _png(background.convert("RGB")), _png(mask) if mask.getbbox() else None


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
