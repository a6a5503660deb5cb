"""Upscaler files in whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.generation import HiresFix
from cloudbrush.engine import Broke, Engine, ModelFile, Models
from tests.engine.listening import Listener, generation
from tests.engine.networks.files import rand, write
from tests.engine.upscale.published import Srvgg


def paint(engine: Engine, models: Models, upscaler: str) -> Listener:
    listener = Listener()
    engine.submit(generation(hires=HiresFix(upscaler=upscaler, denoising_strength=0.5)), models, listener)
    listener.wait()
    return listener


@pytest.fixture
def repeating(tmp_path: Path) -> ModelFile:
    """A network that makes of each pixel four, as `Nearest` does."""
    weights = Srvgg(scale=2, layers=1).weights()
    return write(
        tmp_path / "4x-nothing.safetensors", {key: torch.zeros_like(t) for key, t in weights.items()}
    )


def test_a_file_enlarges_what_the_second_pass_begins_with(
    engine: Engine, tiny: ModelFile, repeating: ModelFile
) -> None:
    by_file = paint(engine, Models(tiny, upscalers=(repeating,)), "4x-nothing")
    by_name = paint(engine, Models(tiny), "Nearest")
    assert np.array_equal(by_file.pixels, by_name.pixels)
    assert not np.array_equal(by_file.pixels, paint(engine, Models(tiny), "Lanczos").pixels)
    assert "Hires upscaler: 4x-nothing" in by_file.images[0].infotext


def test_a_file_that_is_none_ends_the_run_in_words(engine: Engine, tiny: ModelFile, tmp_path: Path) -> None:
    lora = write(tmp_path / "x.safetensors", {"lora_unet_x.diff": rand(2)})
    broke = paint(engine, Models(tiny, upscalers=(lora,)), "x").wait(Broke)
    assert isinstance(broke, Broke)
    assert isinstance(broke.error, ModelFileError)
    assert (broke.error.detail, broke.error.field) == (
        "this is a LoRA; an upscaler was expected",
        "hires.upscaler",
    )
