"""Pictures that people hand in to paint over; addressed by their content, kept as they came."""

from __future__ import annotations

from contextlib import suppress

from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain import image_file
from cloudbrush.domain.errors import Conflict, InvalidInput, NotFound
from cloudbrush.domain.generation import Img2Img
from cloudbrush.domain.image_file import Picture
from cloudbrush.domain.invocation import picture_key


def add(plane: ControlPlane, data: bytes) -> Picture:
    """Keep a picture. Raises `InvalidInput` for what is none."""
    picture = image_file.describe(data)
    with suppress(Conflict):  # handed in before
        plane.stores.blobs.put(picture_key(picture.id), data)
    return picture


def get(plane: ControlPlane, picture_id: str) -> bytes:
    """A picture as it was handed in. Raises `NotFound`."""
    try:
        return plane.stores.blobs.get(picture_key(picture_id))
    except NotFound as error:
        raise NotFound(f"there is no picture {picture_id}", field="id") from error


def check(plane: ControlPlane, generation: Img2Img) -> tuple[int, int]:
    """Width and height of the picture to paint over; raises `InvalidInput` unless all pictures are there."""
    if generation.inpainting:
        _there(plane, generation.inpainting.mask, field="inpainting.mask")
    picture = _there(plane, generation.image, field="image")
    return picture.width, picture.height


def _there(plane: ControlPlane, picture_id: str, field: str) -> Picture:
    try:
        return image_file.describe(get(plane, picture_id))
    except NotFound as error:
        raise InvalidInput(
            error.detail, field=field, hint="Hand it in first: POST /api/v1/pictures."
        ) from error
