"""General Inference and Continuous Inference as the user guide tells them: real program, real browser."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import wait_for
from tests.browser.studio_page import StudioPage

pytestmark = pytest.mark.browser

CLOUD = "Generate on Cloud"
LONG = 120  # steps; long enough to look at a running job


def test_endpoints_are_listed_with_name_status_and_time(studio: StudioPage) -> None:
    entries = studio.entries("cloud_endpoint")
    assert entries[0] == "None: paint on this machine"
    assert re.fullmatch(r"pocket\+InService\+\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", entries[1])
    assert not any("this-machine" in entry for entry in entries)


def test_choosing_an_endpoint_in_service_turns_generate_into_generate_on_cloud(studio: StudioPage) -> None:
    expect(studio.generate).to_have_text("Generate")
    studio.choose_endpoint("pocket+InService")
    expect(studio.generate).to_have_text(CLOUD)
    studio.choose_endpoint("None")
    expect(studio.generate).to_have_text("Generate")


def test_generate_on_cloud_shows_progress_and_then_the_image_with_its_prompt_and_parameters(
    studio: StudioPage,
) -> None:
    prompt = "a red circle on a blue background"
    studio.write(prompt)
    studio.set("txt2img_steps", 40)
    studio.choose_endpoint("pocket+InService")
    expect(studio.generate).to_have_text(CLOUD)
    job = studio.submit()
    expect(studio.progress).to_have_attribute("aria-label", re.compile(r"Step \d+ of 40"))
    expect(studio.page.locator("img.preview")).to_have_attribute(
        "src", re.compile("^data:image/jpeg;base64,")
    )
    expect(studio.images).to_have_attribute("alt", prompt)
    expect(studio.state).to_contain_text("Done in")
    expect(studio.state).to_contain_text("on pocket")
    expect(studio.infotext).to_have_value(re.compile(rf"^{prompt}\nSteps: 40, Sampler: DPM\+\+ 2M, "))
    expect(studio.inference_id).to_have_value(job)
    with studio.page.expect_download() as saving:
        studio.page.locator("#txt2img_save").click()
    saved = Image.open(io.BytesIO(saving.value.path().read_bytes()))
    assert saved.info["parameters"] == studio.infotext.input_value()
    assert re.fullmatch(r"00000-\d+\.png", saving.value.suggested_filename)


def test_further_clicks_submit_further_jobs_which_run_together(studio: StudioPage, api: httpx.Client) -> None:
    studio.write("a green square")
    studio.choose_endpoint("pocket+InService")
    first = studio.submit()
    second = studio.submit()
    assert first != second
    expect(studio.state).to_contain_text("Done in")
    expect(studio.inference_id).to_have_value(second)
    wait_for(lambda: api.get(f"/jobs/{first}").json()["state"] == "succeeded", 30)
    newest = studio.entries("cloud_jobs")[1:3]
    assert [entry.split("-->")[-1] for entry in newest] == [second, first]


def test_the_job_list_follows_states_and_brings_any_job_back(studio: StudioPage) -> None:
    studio.write("a yellow triangle")
    first = studio.submit()
    expect(studio.jobs).to_have_value(
        re.compile(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d-->txt2img-->succeeded-->{first}$")
    )
    studio.write("a purple star")
    second = studio.submit()
    expect(studio.infotext).to_have_value(re.compile("^a purple star\n"))
    studio.choose("cloud_jobs", first)
    expect(studio.inference_id).to_have_value(first)
    expect(studio.images).to_have_attribute("alt", "a yellow triangle")
    expect(studio.infotext).to_have_value(re.compile("^a yellow triangle\n"))
    assert second in "".join(studio.entries("cloud_jobs"))


def test_the_advanced_filter_lists_only_what_is_asked_for(studio: StudioPage) -> None:
    job = studio.submit()
    expect(studio.jobs).to_have_value(re.compile(f"succeeded-->{job}$"))
    advanced = studio.page.locator("#cloud_advanced input")
    advanced.check()
    studio.choose("cloud_filter_status", "expired")
    expect(studio.jobs).to_have_value("No job matches the filter")
    advanced.uncheck()
    expect(studio.page.locator("#cloud_filters")).to_be_hidden()
    expect(studio.jobs).to_have_value(re.compile(job))
    advanced.check()
    studio.choose("cloud_filter_endpoint", "This machine")
    start = studio.field("cloud_filter_start", "input")
    start.fill("2999-01-01")
    start.press("Enter")
    expect(studio.jobs).to_have_value("No job matches the filter")
    start.fill("2000-01-01")
    start.press("Enter")
    expect(studio.jobs).to_have_value(re.compile(job))


def test_an_endpoint_not_in_service_is_refused_and_nothing_runs(
    studio: StudioPage, api: httpx.Client
) -> None:
    api.post("/endpoints", json={"name": "starting"}).raise_for_status()
    try:
        studio.page.locator("#cloud_endpoint_refresh").click()
        studio.choose_endpoint("starting+Creating")
        expect(studio.page.locator("#cloud_endpoint_note")).to_contain_text("starting is starting")
        expect(studio.generate).to_have_text("Generate")
        before = _jobs(api)
        studio.generate.click()
        expect(studio.notice).to_contain_text("Endpoint 'starting' is Creating, not InService.")
        assert _jobs(api) == before
        expect(studio.inference_id).to_have_value("")
    finally:
        api.delete("/endpoints/starting")


def test_an_endpoint_that_left_service_meanwhile_is_refused_and_nothing_runs(
    studio: StudioPage, api: httpx.Client
) -> None:
    api.post("/endpoints", json={"name": "brief", "min_instances": 0}).raise_for_status()
    wait_for(lambda: api.get("/endpoints/brief").json()["state"] == "InService", 30)
    studio.page.locator("#cloud_endpoint_refresh").click()
    studio.choose_endpoint("brief+InService")
    expect(studio.generate).to_have_text(CLOUD)
    api.delete("/endpoints/brief").raise_for_status()
    wait_for(lambda: api.get("/endpoints/brief").is_error, 30)
    before = _jobs(api)
    studio.generate.click()
    expect(studio.notice).to_contain_text("brief")
    expect(studio.endpoint).to_have_value("brief+Deleted")
    expect(studio.generate).to_have_text("Generate")
    assert _jobs(api) == before


def test_without_an_endpoint_generate_paints_on_this_machine(studio: StudioPage) -> None:
    studio.write("a blue circle")
    studio.page.keyboard.press("Control+Enter")
    expect(studio.inference_id).not_to_have_value("")
    expect(studio.state).to_contain_text("Done in")
    expect(studio.state).to_contain_text("on this machine")


def test_ctrl_up_and_down_change_the_weight_at_the_caret(studio: StudioPage) -> None:
    prompt = studio.field("txt2img_prompt")
    prompt.fill("a red circle")
    for _ in range(len("circle") + 2):
        prompt.press("ArrowLeft")
    steps = [
        ("Up", "(red:1.1)"),
        ("Up", "(red:1.2)"),
        ("Down", "(red:1.1)"),
        ("Down", "red"),
        ("Down", "(red:0.9)"),
    ]
    for key, weighted in steps:
        prompt.press(f"Control+Arrow{key}")
        expect(prompt).to_have_value(f"a {weighted} circle")
    expect(studio.page.locator("#txt2img_token_counter")).to_have_text("3/75")


def test_a_reload_keeps_the_form_and_the_running_job(studio: StudioPage) -> None:
    studio.write("an orange circle on a white background")
    studio.set("txt2img_steps", LONG)
    studio.set("txt2img_seed", 42)
    studio.choose_endpoint("pocket+InService")
    job = studio.submit()
    expect(studio.progress).to_be_visible()
    studio.reload()
    expect(studio.inference_id).to_have_value(job)
    expect(studio.progress).to_be_visible()
    expect(studio.field("txt2img_prompt")).to_have_value("an orange circle on a white background")
    expect(studio.field("txt2img_steps", "input[type=number]")).to_have_value(str(LONG))
    expect(studio.field("txt2img_seed", "input")).to_have_value("42")
    expect(studio.generate).to_have_text(CLOUD)
    expect(studio.images).to_be_visible()
    expect(studio.infotext).to_have_value(re.compile("Seed: 42,"))


def test_cancel_stops_a_job_and_delete_forgets_it(studio: StudioPage, api: httpx.Client) -> None:
    studio.set("txt2img_steps", 150)
    job = studio.submit()
    expect(studio.progress).to_be_visible()
    studio.page.locator("#txt2img_cancel").click()
    expect(studio.state).to_contain_text("Cancelled")
    expect(studio.jobs).to_have_value(re.compile("-->cancelled-->"))
    studio.page.once("dialog", lambda dialog: dialog.accept())
    studio.page.locator("#txt2img_delete").click()
    expect(studio.inference_id).to_have_value("")
    expect(studio.stage).to_contain_text("No image yet")
    assert api.get(f"/jobs/{job}").status_code == 404


@pytest.mark.parametrize(
    ("name", "theme", "width", "height"),
    [("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("phone", "light", 390, 844)],
)
def test_everything_is_in_reach_and_readable(
    open_studio: Callable[..., StudioPage],
    screenshot: Callable[[StudioPage, str], None],
    name: str,
    theme: str,
    width: int,
    height: int,
) -> None:
    studio = open_studio(theme=theme, width=width, height=height)
    studio.write("a red circle on a blue background")
    studio.set("txt2img_seed", 7)  # the same picture each time
    studio.choose_endpoint("pocket+InService")
    expect(studio.generate).to_have_text(CLOUD)
    studio.submit()
    expect(studio.images).to_be_visible()
    expect(studio.state).to_contain_text("Done in")
    expect(studio.generate).to_be_in_viewport(ratio=1)
    if width > 1000:
        for part in ("txt2img_prompts", "txt2img_settings", "cloud_panel", "txt2img_results"):
            expect(studio.page.locator(f"#{part}")).to_be_in_viewport(ratio=1)
    assert studio.page.evaluate("document.documentElement.scrollWidth") == width
    assert studio.faint_texts() == []
    studio.page.evaluate("scrollTo(0, 0)")
    screenshot(studio, f"studio-{name}")


def _jobs(api: httpx.Client) -> int:
    return len(api.get("/jobs", params={"limit": 100}).json()["jobs"])
