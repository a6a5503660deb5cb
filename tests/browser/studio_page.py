"""The studio as a person uses it: what can be done and what can be seen, by the page's stable names."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, Self

from PIL import Image
from playwright.sync_api import Locator, Page, expect

PATIENCE = 60_000  # milliseconds for a small image on a busy machine whose worker may only be starting
expect.set_options(timeout=PATIENCE)


class StudioPage:
    """One open page."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address

    def open(self) -> Self:
        """Load the page and wait until it knows its checkpoints."""
        self.page.goto(self.address)
        expect(self.checkpoint).not_to_have_value("")
        expect(self.field("cloud_jobs", "input")).not_to_have_value("")
        return self

    def reload(self) -> Self:
        """Load the page again, as F5 does."""
        self.page.reload()
        expect(self.checkpoint).not_to_have_value("")
        return self

    def field(self, elem_id: str, kind: str = "textarea") -> Locator:
        """The box of a control."""
        return self.page.locator(f"#{elem_id} {kind}").first

    def set(self, elem_id: str, value: Any) -> None:
        """Type a number into a control and leave it."""
        box = self.field(elem_id, "input[type=number]")
        box.fill(str(value))
        box.press("Tab")

    def write(self, prompt: str) -> None:
        """Write the prompt."""
        self.field("txt2img_prompt").fill(prompt)

    def choose(self, elem_id: str, part: str) -> None:
        """Choose the entry of a dropdown that has `part` in it."""
        box = self.field(elem_id, "input")
        box.click()
        self.page.get_by_role("option", name=re.compile(re.escape(part))).click()
        box.blur()  # a list of several choices stays open until then

    def choose_endpoint(self, part: str) -> None:
        """Choose the endpoint whose entry has `part` in it."""
        self.choose("cloud_endpoint", part)

    def entries(self, elem_id: str) -> list[str]:
        """The entries of a dropdown."""
        box = self.field(elem_id, "input")
        box.click()
        options = self.page.get_by_role("option")
        expect(options.first).to_be_visible()
        texts = [option.get_attribute("aria-label") or "" for option in options.all()]
        box.blur()
        expect(options).to_have_count(0)
        return texts

    def submit(self) -> str:
        """Press Generate and return the new Inference ID as soon as it is there."""
        before = self.inference_id.input_value()
        self.generate.click()
        expect(self.inference_id).to_have_value(re.compile(rf"^(?!{before or 'none'}$)[0-9a-f-]{{36}}$"))
        return self.inference_id.input_value()

    def press(self, elem_id: str) -> None:
        """Press a button."""
        self.page.locator(f"#{elem_id}").click()

    def tick(self, elem_id: str) -> None:
        """Tick a box."""
        self.page.locator(f"#{elem_id} input").check()

    def open_tab(self, elem_id: str) -> None:
        """Open a tab."""
        self.page.locator(f"#{elem_id}-button").click()

    def number(self, elem_id: str) -> Locator:
        """The number box of a control."""
        return self.field(elem_id, "input[type=number]")

    def upload(self, elem_id: str, path: Path) -> None:
        """Choose a file for a picture box."""
        self.page.set_input_files(f"#{elem_id} input[type=file]", path)

    def saved(self) -> Image.Image:
        """The image shown, as Save downloads it."""
        with self.page.expect_download() as saving:
            self.press("txt2img_save")
        return Image.open(io.BytesIO(saving.value.path().read_bytes()))

    @property
    def generate(self) -> Locator:
        """The one main button, of the tab that is open."""
        return self.page.locator(".generate").filter(visible=True)

    @property
    def checkpoint(self) -> Locator:
        """The checkpoint's dropdown."""
        return self.field("setting_sd_model_checkpoint", "input")

    @property
    def endpoint(self) -> Locator:
        """The endpoint's dropdown."""
        return self.field("cloud_endpoint", "input")

    @property
    def jobs(self) -> Locator:
        """The job dropdown."""
        return self.field("cloud_jobs", "input")

    @property
    def inference_id(self) -> Locator:
        """The Inference ID in Output."""
        return self.field("inference_id")

    @property
    def infotext(self) -> Locator:
        """Prompt and parameters in Output."""
        return self.field("html_info_txt2img")

    @property
    def state(self) -> Locator:
        """The state line in Output."""
        return self.page.locator("#txt2img_state")

    @property
    def stage(self) -> Locator:
        """What stands in place of an image."""
        return self.page.locator("#txt2img_stage")

    @property
    def progress(self) -> Locator:
        """The progress bar."""
        return self.page.get_by_role("progressbar")

    @property
    def notice(self) -> Locator:
        """What is wrong with the last click on Generate."""
        return self.page.locator("#notice")

    @property
    def images(self) -> Locator:
        """The large image in Output."""
        return self.page.locator("#txt2img_gallery [data-testid=detailed-image]")

    def faint_texts(self) -> list[str]:
        """Texts on the page that stand out less than WCAG 2.2 AA asks for, with their contrast."""
        return list(self.page.evaluate(FAINT_TEXTS))


# Contrast of each visible text with the nearest opaque background, by WCAG's relative luminance.
FAINT_TEXTS = """() => {
  const parse = (color) => {
    const numbers = color.match(/[\\d.]+/g).map(Number);
    const scale = color.startsWith("color(srgb") ? 255 : 1;
    return [...numbers.slice(0, 3).map((n) => n * scale), numbers[3] ?? 1];
  };
  const luminance = ([r, g, b]) => {
    const linear = (n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((n) => linear(n / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const background = (element) => {
    for (let box = element; box; box = box.parentElement) {
      const color = parse(getComputedStyle(box).backgroundColor);
      if (color[3] > 0.5) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const check = (element, words, color) => {
    const box = element.getBoundingClientRect();
    if (!words || !box.width || !box.height || getComputedStyle(element).visibility === "hidden") return;
    const [high, low] = [luminance(parse(color)), luminance(background(element))].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faint.push(`${words.slice(0, 40)}: ${contrast.toFixed(2)}`);
  };
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode())
    check(text.parentElement, text.data.trim(), getComputedStyle(text.parentElement).color);
  const written = "main input:not([type=checkbox], [type=radio], [type=range]), main textarea";
  for (const box of document.querySelectorAll(written)) {
    check(box, box.value, getComputedStyle(box).color);
    check(box, box.placeholder, getComputedStyle(box, "::placeholder").color);
  }
  return faint;
}"""
