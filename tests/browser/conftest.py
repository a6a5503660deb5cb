"""The real program and a real Chromium; both are started once for all browser tests."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from cloudbrush.client import Client
from tests.browser.studio_page import StudioPage
from tests.program import Program

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LAYER = "lora_unet_mid_block_attentions_0_proj_in"
NO_CHANGE = {  # a LoRA that changes nothing
    f"{_LAYER}.lora_up.weight": np.zeros((4, 1), np.float32),
    f"{_LAYER}.lora_down.weight": np.zeros((1, 4), np.float32),
}
LEAVING = r"signal is aborted|errored out|network error"  # what Gradio logs when a page is left or reloaded


@pytest.fixture(scope="package")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Cloudbrush of our own listens; its endpoint `pocket` is InService."""
    if not CHROMIUM.exists():
        pytest.skip("browser tests need Chromium: apt-get install chromium")
    program = Program(tmp_path_factory.mktemp("studio") / "data")
    lora = program.data_dir / "models" / "Lora" / "nothing.safetensors"
    lora.parent.mkdir(parents=True)
    save_file(NO_CHANGE, lora)
    program.start()
    try:
        yield asyncio.run(_painting(program))
    finally:
        program.stop()


async def _painting(program: Program) -> str:
    url = await program.url()
    async with Client(url) as client:
        await program.until_in_service(client)
    return url


@pytest.fixture(scope="package")
def browser(url: str) -> Iterator[Any]:
    """A Chromium. Of the package, not the session: while it lives, no other test can run an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def open_studio(browser: Any, url: str) -> Iterator[Callable[..., StudioPage]]:
    """Open the studio as a new person would; what the browser complains of fails the test."""
    with opening(browser, url) as open_page:
        yield open_page


@contextmanager
def opening(browser: Any, url: str) -> Iterator[Callable[..., StudioPage]]:
    """How pages of a studio are opened; they are closed, and must not have complained, in the end."""
    contexts = []
    complaints: list[str] = []

    def complain(words: str) -> None:
        if not re.search(LEAVING, words):
            complaints.append(words)

    def open_page(theme: str = "light", width: int = 1440, height: int = 900) -> StudioPage:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("console", lambda said: complain(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: asked.url.startswith((url, "data:", "blob:")) or complain(asked.url))
        return StudioPage(page, f"{url}/?__theme={theme}").open()

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def studio(open_studio: Callable[..., StudioPage]) -> StudioPage:
    """The studio, freshly opened."""
    return open_studio()


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    """The REST API behind the page."""
    with httpx.Client(base_url=f"{url}/api/v1", timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def screenshot() -> Callable[[StudioPage, str], None]:
    """Save a picture for the documentation, when asked to by CLOUDBRUSH_SCREENSHOTS=1."""

    def save(studio: StudioPage, name: str) -> None:
        if os.environ.get("CLOUDBRUSH_SCREENSHOTS") == "1":
            studio.page.mouse.move(0, 0)
            folder = Path(__file__).parents[2] / "docs" / "images"
            studio.page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return save


def wait_for(condition: Callable[[], bool], limit: float) -> None:
    """Return when the condition holds; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit:g} s in vain")
        time.sleep(0.05)
