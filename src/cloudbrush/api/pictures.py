"""/pictures: images to paint over, handed in before the generation that names them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Response

from cloudbrush.api.asking import Plane
from cloudbrush.control import pictures as control
from cloudbrush.domain.image_file import MEDIA_TYPES, Picture, describe

router = APIRouter(prefix="/pictures", tags=["pictures"])
PictureId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="the picture's SHA-256")]


@router.post("", status_code=201)
def add_picture(data: Annotated[bytes, Body(media_type="application/octet-stream")], plane: Plane) -> Picture:
    """Keep a PNG, JPEG or WebP file as it is; the answer's `id` is what generations name it by."""
    return control.add(plane, data)


@router.get("/{picture_id}", response_class=Response)
def get_picture(picture_id: PictureId, plane: Plane) -> Response:
    """The picture as it was handed in."""
    data = control.get(plane, picture_id)
    return Response(data, media_type=MEDIA_TYPES[describe(data).format])
