"""What the forms do, without a browser."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from cloudbrush.domain import image_file
from cloudbrush.domain.endpoint import THIS_MACHINE, EndpointState
from cloudbrush.domain.generation import Img2Img
from cloudbrush.studio import draft, form_handlers, settings_tab, values
from cloudbrush.studio.cloud_panel import NO_ENDPOINT
from cloudbrush.studio.form_handlers import FormHandlers
from cloudbrush.studio.values import IMG2IMG, TXT2IMG
from tests import builders
from tests.studio.fake_client import FakeClient, endpoint

SETTINGS = settings_tab.usual()
IDS = {"width": "txt2img_width"}
TEXT = "a cat\nSteps: 12, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 64x64, Model: pocket"


@pytest.fixture
def handle(client: FakeClient, tmp_path: Path) -> FormHandlers:
    return FormHandlers(client, str(tmp_path), {"img2img/steps": 20})  # type: ignore[arg-type]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """A painted image with an infotext inside."""
    path = tmp_path / "image.png"
    path.write_bytes(image_file.save(Image.new("RGB", (96, 64), "blue"), TEXT))
    return str(path)


async def submit(
    handle: FormHandlers, task: str = TXT2IMG, place: str = NO_ENDPOINT, **changes: Any
) -> tuple[Any, str]:
    given = [changes.get(path) for path in values.FIELDS[task]]
    return await handle.submit(task, IDS, place, *given, *SETTINGS)


def told(task: str, updates: list[Any]) -> dict[str, Any]:
    """The form's values among what a handler returned."""
    return dict(zip(values.FIELDS[task], updates, strict=True))


async def test_submitting_answers_with_the_inference_id(handle: FormHandlers, client: FakeClient) -> None:
    job_id, notice = await submit(handle, place="pocket", steps=33)
    assert notice == ""
    assert (await client.job(job_id)).generation.steps == 33
    assert (await client.job(job_id)).endpoint == "pocket"


async def test_without_an_endpoint_this_machine_paints(handle: FormHandlers, client: FakeClient) -> None:
    job_id, _ = await submit(handle)
    assert (await client.job(job_id)).endpoint == THIS_MACHINE


async def test_an_endpoint_not_in_service_runs_nothing_and_says_so(
    handle: FormHandlers, client: FakeClient
) -> None:
    client.deployed = [endpoint("pocket", EndpointState.CREATING), endpoint(THIS_MACHINE)]
    job_id, notice = await submit(handle, place="pocket")
    assert job_id == gr.skip()
    assert "Endpoint &#x27;pocket&#x27; is Creating." in notice
    assert "Choose another." in notice
    assert client.stored == {}


async def test_a_wrong_value_is_told_beside_its_control_and_not_submitted(
    handle: FormHandlers, client: FakeClient
) -> None:
    _, notice = await submit(handle, width=333)
    assert "Width: Input should be a multiple of 8." in notice
    assert 'data-control="txt2img_width"' in notice
    assert notice != (await submit(handle, width=333))[1]  # the page marks the control again
    assert client.stored == {}


async def test_img2img_paints_over_the_picture_that_was_handed_in(
    handle: FormHandlers, client: FakeClient, picture: str
) -> None:
    image, mask = await handle.hand_in("img2img", picture, None, None, None)
    assert mask == ""
    job_id, notice = await submit(handle, IMG2IMG, image=image, mode="img2img")
    assert notice == ""
    asked = (await client.job(job_id)).generation
    assert isinstance(asked, Img2Img)
    assert client.pictures[asked.image] == Path(picture).read_bytes()


async def test_a_page_comes_back_as_it_was(handle: FormHandlers) -> None:
    remembered = {
        "txt2img/prompt": "a cat",
        "txt2img/width": 512,
        "img2img/steps": 20,
        "img2img/overrides": ["ENSD: 1"],
        "endpoint": "pocket",
        "inference_id": "x",
    }
    page = dict(zip(draft.NAMES, await handle.restore(remembered), strict=True))
    assert (page["txt2img/prompt"], page["txt2img/width"], page["inference_id"]) == ("a cat", 512, "x")
    assert page["checkpoint"]["value"] == "pocket"
    assert page["endpoint"]["value"] == "pocket"
    assert page["txt2img/height"] == page["img2img/height"] == 128  # not remembered: the checkpoint's own
    assert page["img2img/overrides"]["value"] == ["ENSD: 1"]
    assert page["img2img/steps"] == gr.skip()  # as on a fresh page


async def test_the_pictures_of_the_last_job_come_back(
    handle: FormHandlers, client: FakeClient, picture: str
) -> None:
    data = Path(picture).read_bytes()
    known = (await client.add_picture(data)).id
    tabs, image, base, mask = await handle.restore_pictures("img2img", known, "")
    assert (tabs.selected, base, mask) == ("img2img", gr.skip(), gr.skip())
    assert Path(image).read_bytes() == data
    tabs, image, base, mask = await handle.restore_pictures("upload", known, known)
    assert (tabs.selected, image) == ("upload", gr.skip())
    assert Path(base).read_bytes() == Path(mask).read_bytes() == data
    editor = await handle.restore_editor("inpaint", known)
    assert Path(editor["background"]).read_bytes() == data
    assert await handle.restore_editor("img2img", known) == gr.skip()
    assert (await handle.restore_pictures("img2img", "0" * 64, ""))[1] is None  # gone meanwhile


async def test_paste_reads_the_prompt_box(handle: FormHandlers) -> None:
    *form, notice = await handle.paste(TXT2IMG, TEXT, *SETTINGS)
    found = told(TXT2IMG, form)
    assert (found["prompt"], found["steps"], found["seed"], notice) == ("a cat", 12, 5, "")
    assert found["batch_count"] == gr.skip()


async def test_paste_says_what_is_not_here(handle: FormHandlers) -> None:
    *_, notice = await handle.paste(TXT2IMG, TEXT.replace("pocket", "<gone>"), *SETTINGS)
    assert "Stable Diffusion checkpoint &#x27;&lt;gone&gt;&#x27; is not here." in notice


async def test_paste_into_an_empty_prompt_brings_the_latest_job_back(
    handle: FormHandlers, client: FakeClient
) -> None:
    *form, _ = await handle.paste(TXT2IMG, "  ", *SETTINGS)
    assert all(value == gr.skip() for value in form)
    await client.add(builders.job(generation=builders.generation(prompt="first")))
    await client.add(builders.job(generation=builders.generation(prompt="latest", steps=9, seed=77)))
    *form, _ = await handle.paste(TXT2IMG, "", *SETTINGS)
    found = told(TXT2IMG, form)
    assert (found["prompt"], found["steps"], found["seed"]) == ("latest", 9, 77)


async def test_send_to_img2img_brings_the_image_its_size_and_its_parameters(
    handle: FormHandlers, picture: str
) -> None:
    tabs, *form, notice, way, image = await handle.send_to_img2img("img2img", picture, TEXT, *SETTINGS)
    found = told(IMG2IMG, form)
    assert (tabs.selected, way.selected, image, notice) == ("img2img", "img2img", picture, "")
    assert (found["mode"], found["prompt"], found["steps"]) == ("img2img", "a cat", 12)
    assert (found["width"], found["height"]) == (96, 64)  # of the image, not the 64x64 of the text


async def test_send_to_inpaint_fills_the_editor(handle: FormHandlers, picture: str) -> None:
    *_, way, image = await handle.send_to_img2img("inpaint", picture, TEXT, *SETTINGS)
    assert (way.selected, image) == ("inpaint", gr.skip())
    assert (await handle.open_editor(picture))["background"] == picture
    assert await handle.open_editor(None) == gr.skip()


async def test_send_to_txt2img_leads_there(handle: FormHandlers) -> None:
    tabs, *form, _ = await handle.send_to_txt2img(TEXT, *SETTINGS)
    assert tabs.selected == "txt2img"
    assert told(TXT2IMG, form)["steps"] == 12


async def test_png_info_reads_what_is_written_inside(
    handle: FormHandlers, picture: str, tmp_path: Path
) -> None:
    note, text = await handle.read_picture(picture)
    assert text == TEXT
    assert "PNG, 96 × 64 pixels" in note
    bare = tmp_path / "bare.png"
    Image.new("RGB", (8, 8)).save(bare)
    note, text = await handle.read_picture(str(bare))
    assert text == ""
    assert "Nothing is written inside" in note
    assert (await handle.read_picture(None))[1] == ""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(gr.Error) as refused:
        await handle.read_picture(str(tmp_path / "broken.png"))
    assert "This is no image that can be read." in str(refused.value.message)


async def test_the_size_of_the_picture_can_be_taken_over(handle: FormHandlers, picture: str) -> None:
    assert await handle.detect_size("img2img", picture, None, None, None) == (96, 64)
    assert await handle.detect_size("img2img", None, None, None, None) == (gr.skip(), gr.skip())


async def test_a_click_on_a_checkpoint_chooses_it_with_its_size(
    handle: FormHandlers, client: FakeClient
) -> None:
    large = builders.checkpoint("large").model_copy(update={"native_size": 1024})
    client.assets = [builders.checkpoint("pocket"), large]
    clicked: Any = SimpleNamespace(value="large")
    assert await handle.choose(clicked) == ("large", 1024, 1024)
    assert await handle.native_size("pocket") == (128, 128)


async def test_refresh_finds_new_files_and_keeps_what_is_chosen(
    handle: FormHandlers, client: FakeClient
) -> None:
    client.assets = [builders.checkpoint("one"), builders.checkpoint("two")]
    chosen = ["two" if name == "checkpoint" else "gone" for name in form_handlers.MODEL_NAMES]
    updates = dict(zip(form_handlers.MODEL_NAMES, await handle.refresh_models(*chosen), strict=True))
    assert updates["checkpoint"]["value"] == "two"
    assert updates["vae"]["value"] == "Automatic"
    assert updates["txt2img/hires.upscaler"]["value"] == "Latent"
    assert [name for _, name in updates["img2img/refiner.checkpoint"]["choices"]] == ["", "one", "two"]


def test_the_seed_to_use_again_is_the_shown_images() -> None:
    text = "a cat\nSteps: 1, Sampler: Euler, Seed: 6, Variation seed: 9, Variation seed strength: 0.1"
    assert form_handlers.reuse_seed(text) == 6
    assert form_handlers.reuse_variation(text) == 9
    assert form_handlers.reuse_seed("") == form_handlers.reuse_variation("") == -1
