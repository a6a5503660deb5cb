"""Pictures to paint over: handed in once, named by their content."""

from __future__ import annotations

import httpx
from PIL import Image

from cloudbrush.domain import image_file
from cloudbrush.domain.errors import InvalidInput
from tests.world import World

PNG = image_file.save(Image.new("RGB", (200, 100), "navy"), "a sea, Steps: 20")


async def hand_in(http: httpx.AsyncClient, data: bytes = PNG) -> httpx.Response:
    return await http.post("/pictures", content=data)


async def test_a_picture_is_kept_as_it_came(http: httpx.AsyncClient) -> None:
    answer = await hand_in(http)
    assert answer.status_code == 201
    picture = answer.json()
    assert (picture["format"], picture["width"], picture["height"]) == ("PNG", 200, 100)
    assert picture["infotext"] == "a sea, Steps: 20"
    kept = await http.get(f"/pictures/{picture['id']}")
    assert (kept.content, kept.headers["content-type"]) == (PNG, "image/png")


async def test_the_same_picture_is_kept_once(http: httpx.AsyncClient, world: World) -> None:
    first, second = [(await hand_in(http)).json() for _ in range(2)]
    assert first == second
    assert world.plane.stores.blobs.keys("pictures") == [f"pictures/{first['id']}"]


async def test_what_is_no_picture_is_refused(http: httpx.AsyncClient) -> None:
    for data in (b"", b"not a picture", PNG[:50]):
        answer = await hand_in(http, data)
        assert (answer.status_code, answer.json()["code"]) == (422, InvalidInput.code)
        assert answer.json()["field"]


async def test_a_picture_may_be_larger_than_other_requests(http: httpx.AsyncClient) -> None:
    noise = Image.effect_noise((1400, 1400), 90)
    data = image_file.save(noise, "")
    assert len(data) > 2**20
    assert (await hand_in(http, data)).status_code == 201
    answer = await hand_in(http, bytes(image_file.MAX_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_img2img_names_a_picture_that_is_there(http: httpx.AsyncClient) -> None:
    generation = {"task": "img2img", "image": "0" * 64}
    missing = await http.post("/jobs", json={"generation": generation, "endpoint": "pocket"})
    assert (missing.status_code, missing.json()["field"]) == (422, "image")
    generation["image"] = (await hand_in(http)).json()["id"]
    generation["inpainting"] = {"mask": "1" * 64}  # type: ignore[assignment]
    unmasked = await http.post("/jobs", json={"generation": generation, "endpoint": "pocket"})
    assert (unmasked.status_code, unmasked.json()["field"]) == (422, "inpainting.mask")


async def test_img2img_is_as_large_as_its_picture(http: httpx.AsyncClient) -> None:
    picture = (await hand_in(http)).json()["id"]
    body = {"generation": {"task": "img2img", "image": picture}, "endpoint": "pocket"}
    painted = (await http.post("/jobs", json=body)).json()["generation"]
    assert (painted["width"], painted["height"]) == (200, 96)  # sides are in steps of 8
    assert painted["denoising_strength"] == 0.75
