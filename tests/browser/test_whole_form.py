"""Everything the engine can do, from the page: hires fix, variations, extra networks, img2img, PNG Info."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import expect

from cloudbrush.domain import image_file
from tests.browser.studio_page import StudioPage

pytestmark = pytest.mark.browser

TEXT = """a red circle on a blue background
Negative prompt: blurry
Steps: 5, Sampler: Euler a, CFG scale: 6, Seed: 7, Size: 128x64, Variation seed: 9, \
Variation seed strength: 0.2, Denoising strength: 0.4, ENSD: 31337, Hires upscale: 1.5, Hires steps: 3, \
Hires upscaler: Lanczos, Version: v1.10.1"""
NUMBERS = {
    "txt2img_steps": "5",
    "txt2img_cfg_scale": "6",
    "txt2img_seed": "7",
    "txt2img_width": "128",
    "txt2img_height": "64",
    "txt2img_subseed": "9",
    "txt2img_subseed_strength": "0.2",
    "txt2img_denoising_strength": "0.4",
    "txt2img_hr_scale": "1.5",
    "txt2img_hires_steps": "3",
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture with an infotext inside."""
    path = tmp_path / "picture.png"
    path.write_bytes(image_file.save(Image.new("RGB", (128, 128), (40, 90, 200)), TEXT))
    return path


def expect_numbers(studio: StudioPage, numbers: dict[str, str]) -> None:
    for elem_id, number in numbers.items():
        expect(studio.number(elem_id)).to_have_value(number)


def test_paste_fills_every_field_and_the_image_comes_out_with_the_same_text(studio: StudioPage) -> None:
    studio.write(TEXT)
    studio.press("txt2img_paste")
    expect_numbers(studio, NUMBERS)
    expect(studio.field("txt2img_prompt")).to_have_value("a red circle on a blue background")
    expect(studio.field("txt2img_neg_prompt")).to_have_value("blurry")
    expect(studio.field("txt2img_hr_upscaler", "input")).to_have_value("Lanczos")
    expect(studio.page.locator("#txtimg_hr_finalres")).to_have_text("from 128x64 to 192x96")
    expect(studio.page.locator("#txt2img_override_settings .token")).to_have_text(re.compile("ENSD: 31337"))
    studio.choose_endpoint("pocket+InService")
    studio.submit()
    expect(studio.state).to_contain_text("Done in")
    saved = studio.saved()
    assert saved.size == (192, 96)
    for told in ("Steps: 5", "Variation seed: 9", "Hires upscale: 1.5", "Hires steps: 3", "ENSD: 31337"):
        assert told in saved.info["parameters"]


def test_a_refused_value_is_told_at_its_control_until_it_is_changed(
    studio: StudioPage, api: httpx.Client
) -> None:
    studio.choose("txt2img_sampling", "UniPC")
    studio.set("txt2img_steps", 2)
    before = len(api.get("/jobs", params={"limit": 100}).json()["jobs"])
    studio.generate.click()
    words = "Sampling steps: UniPC needs at least 3 steps."
    expect(studio.notice).to_contain_text(words)
    steps = studio.page.locator("#txt2img_steps")
    expect(steps).to_have_attribute("data-refused", words)
    expect(steps).to_be_in_viewport()
    assert len(api.get("/jobs", params={"limit": 100}).json()["jobs"]) == before
    studio.set("txt2img_steps", 3)
    expect(steps).not_to_have_attribute("data-refused", words)
    studio.write("a cat")  # what else the page does brings no mark back
    expect(studio.page.locator("#txt2img_token_counter")).to_have_text("2/75")
    expect(steps).not_to_have_attribute("data-refused", words)
    studio.set("txt2img_steps", 2)
    studio.generate.click()  # refused with the same words: marked again
    expect(steps).to_have_attribute("data-refused", words)


def test_extra_networks_go_into_the_prompt_and_out_again(studio: StudioPage) -> None:
    studio.write("a red circle")
    studio.open_tab("txt2img_lora_tab")
    card = studio.page.locator("#txt2img_lora_cards .card-item", has_text="nothing")
    expect(card).to_be_visible()
    card.click()
    expect(studio.field("txt2img_prompt")).to_have_value("a red circle <lora:nothing:1>")
    search = studio.field("txt2img_lora_extra_search")
    search.fill("something else")
    expect(card).to_be_hidden()
    search.fill("NOTH")
    card.click()
    expect(studio.field("txt2img_prompt")).to_have_value("a red circle")
    studio.open_tab("txt2img_hypernetworks_tab")
    studio.page.locator("#txt2img_hypernetworks_cards .card-item", has_text="pastel").click()
    expect(studio.field("txt2img_prompt")).to_have_value("a red circle <hypernet:pastel:1>")
    studio.open_tab("txt2img_checkpoints_tab")
    studio.page.locator("#txt2img_checkpoints_cards .card-item").click()
    expect(studio.checkpoint).to_have_value(re.compile("^pocket"))


def test_send_to_img2img_paints_over_the_image(
    studio: StudioPage, screenshot: Callable[[StudioPage, str], None]
) -> None:
    studio.write("a red circle on a blue background")
    studio.set("txt2img_seed", 7)
    studio.choose_endpoint("pocket+InService")
    studio.submit()
    expect(studio.state).to_contain_text("Done in")
    first = studio.saved()
    studio.press("txt2img_send_to_img2img")
    expect(studio.page.locator("#img2img_image img")).to_be_visible()
    expect(studio.field("img2img_prompt")).to_have_value("a red circle on a blue background")
    expect_numbers(studio, {"img2img_seed": "7", "img2img_steps": "20"})
    expect(studio.generate).to_have_text("Generate on Cloud")
    studio.set("img2img_denoising_strength", 0.1)
    studio.submit()
    expect(studio.infotext).to_have_value(re.compile("Denoising strength: 0.1"))
    expect(studio.state).to_contain_text("Done in")
    screenshot(studio, "studio-img2img")
    again = studio.saved()
    difference = ImageChops.difference(first.convert("RGB"), again.convert("RGB"))
    assert max(ImageStat.Stat(difference).mean) < 20  # a little denoising keeps the image
    studio.reload()
    studio.open_tab("tab_img2img")
    expect(studio.page.locator("#img2img_image img")).to_be_visible()  # also the picture is still there
    expect_numbers(studio, {"img2img_denoising_strength": "0.1", "img2img_seed": "7"})


def test_inpaint_changes_only_what_was_painted_over(studio: StudioPage, picture: Path) -> None:
    studio.open_tab("tab_img2img")
    studio.open_tab("img2img_inpaint_tab")
    studio.page.evaluate("window.cloudbrush.editorReady()")
    studio.upload("img2maskimg", picture)
    studio.field("img2img_prompt").fill("a red circle")
    studio.set("img2img_steps", 5)
    studio.set("img2img_mask_blur", 0)
    expect(studio.page.locator("#img2maskimg [aria-label='Brush Size']")).to_be_visible()
    studio.generate.click()
    expect(studio.notice).to_contain_text("Mask: nothing is chosen.")
    _stroke(studio)
    studio.choose_endpoint("pocket+InService")
    studio.submit()
    expect(studio.state).to_contain_text("Done in")
    painted = studio.saved().convert("RGB")
    before = Image.open(picture).convert("RGB")
    changed = ImageChops.difference(painted, before).getbbox()
    assert changed is not None
    left, top, right, bottom = changed
    assert left > 10
    assert top > 10
    assert right < 118
    assert bottom < 118


def _stroke(studio: StudioPage) -> None:
    """A short stroke through the middle of the picture in the editor."""
    box = studio.page.locator("#img2maskimg canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = studio.page.mouse
    mouse.move(x - 5, y)
    mouse.down()
    mouse.move(x + 5, y, steps=5)
    mouse.up()


def test_png_info_tells_what_is_inside_and_sends_it_on(studio: StudioPage, picture: Path) -> None:
    studio.open_tab("tab_pnginfo")
    studio.upload("pnginfo_image", picture)
    expect(studio.field("pnginfo_infotext")).to_have_value(TEXT)
    studio.press("pnginfo_send_to_txt2img")
    expect_numbers(studio, NUMBERS)
    studio.open_tab("tab_pnginfo")
    studio.press("pnginfo_send_to_img2img")
    expect(studio.page.locator("#img2img_image img")).to_be_visible()
    expect_numbers(studio, {"img2img_width": "128", "img2img_height": "128", "img2img_steps": "5"})


def test_settings_count_for_every_job_and_outlive_a_reload(studio: StudioPage) -> None:
    studio.open_tab("tab_settings")
    studio.set("setting_eta_noise_seed_delta", 31337)
    studio.choose("setting_randn_source", "CPU")
    studio.reload()
    studio.set("txt2img_steps", 1)
    studio.submit()
    expect(studio.infotext).to_have_value(re.compile("ENSD: 31337, RNG: CPU"))
    studio.open_tab("tab_settings")
    studio.press("settings_reset")
    expect_numbers(studio, {"setting_eta_noise_seed_delta": "0"})


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)])
def test_every_tab_is_readable_and_fits(
    open_studio: Callable[..., StudioPage], theme: str, width: int
) -> None:
    studio = open_studio(theme=theme, width=width, height=900)
    for box in ("txt2img_hr-checkbox", "txt2img_enable-checkbox", "txt2img_subseed_show"):
        studio.tick(box)
    for tab in ("txt2img", "img2img", "pnginfo", "settings"):
        if width > 1000 or tab in ("txt2img", "img2img"):  # the rest is behind the menu of a narrow page
            studio.open_tab(f"tab_{tab}")
        assert studio.page.evaluate("document.documentElement.scrollWidth") == width
        assert studio.faint_texts() == []
        if tab in ("txt2img", "img2img"):
            expect(studio.generate).to_be_in_viewport(ratio=1)
