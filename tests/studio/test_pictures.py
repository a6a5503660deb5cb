"""Pictures of the page as files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.studio import pictures
from cloudbrush.studio.pictures import Boxes
from tests.studio.fake_client import FakeClient


def png(path: Path, colour: str = "blue", size: tuple[int, int] = (40, 20)) -> str:
    Image.new("RGB", size, colour).save(path)
    return str(path)


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data))


def test_a_file_is_handed_in_as_it_is(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png")
    boxes = Boxes(image=path, base=png(tmp_path / "b.png", "red"), mask=png(tmp_path / "m.png", "white"))
    assert boxes.files("img2img") == (Path(path).read_bytes(), None)
    assert boxes.files("upload") == ((tmp_path / "b.png").read_bytes(), (tmp_path / "m.png").read_bytes())


def test_the_mask_is_white_where_the_editor_was_painted_on() -> None:
    strokes = Image.new("RGBA", (40, 20))
    strokes.paste((255, 255, 255, 255), (10, 5, 30, 15))
    editor = {"background": Image.new("RGBA", (40, 20), "blue"), "layers": [strokes], "composite": None}
    picture, mask = Boxes(editor=editor).files("inpaint")
    assert (opened(picture).mode, opened(picture).getpixel((0, 0))) == ("RGB", (0, 0, 255))
    assert (opened(mask).size, opened(mask).getbbox()) == ((40, 20), (10, 5, 30, 15))
    assert opened(mask).getextrema() == (0, 255)


def test_an_editor_that_was_not_painted_on_has_no_mask() -> None:
    background = Image.new("RGBA", (40, 20), "blue")
    bare = Boxes(editor={"background": background, "layers": [Image.new("RGBA", (40, 20))]})
    assert bare.files("inpaint")[1] is None
    assert Boxes(editor={"background": None, "layers": []}).files("inpaint") == (None, None)
    assert Boxes().files("inpaint") == (None, None)


async def test_pictures_come_back_by_their_ids(client: FakeClient, tmp_path: Path) -> None:
    boxes = Boxes(base=png(tmp_path / "b.png"), mask=png(tmp_path / "m.png", "white"))
    picture, mask = await pictures.hand_in(client, boxes, "upload")  # type: ignore[arg-type]
    assert set(client.pictures) == {picture, mask}
    again = await pictures.fetch(client, str(tmp_path), picture)  # type: ignore[arg-type]
    assert Path(again).read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Path(again).suffix == ".png"
    assert await pictures.hand_in(client, Boxes(), "img2img") == ("", "")  # type: ignore[arg-type]


def test_the_size_of_a_picture_is_one_that_can_be_painted(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", size=(333, 21))
    assert pictures.size(Path(path).read_bytes()) == (336, 64)
    with pytest.raises(InvalidInput):
        pictures.size(b"no picture")
