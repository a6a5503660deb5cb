"""Random numbers, against the WebUI's draws."""

from __future__ import annotations

import pytest
import torch

from cloudbrush.engine.noise import image_noise
from tests.golden.load import golden, golden_arrays

VALUES = golden("rng")["values"]


@pytest.mark.parametrize("seed", VALUES["nv"])
def test_nv_draws_equal_the_webui(seed: str) -> None:
    noise = image_noise("NV", int(seed), (4, 8, 8))
    first, second = noise(), noise()
    assert first.flatten()[:16].tolist() == VALUES["nv"][seed]["first16"]
    assert second.flatten()[:16].tolist() == VALUES["nv"][seed]["second_call_first16"]
    assert first.double().sum().item() == pytest.approx(VALUES["nv"][seed]["sum"], abs=1e-6)


@pytest.mark.parametrize("seed", VALUES["cpu"])
def test_cpu_draws_equal_the_webui(seed: str) -> None:
    first = image_noise("CPU", int(seed), (4, 8, 8))()
    assert first.flatten()[:16].tolist() == VALUES["cpu"][seed]["randn_1x4x8x8_first16"]


@pytest.mark.parametrize("source", ["CPU", "NV"])
def test_an_images_draws_follow_each_other(source: str) -> None:
    expected = torch.from_numpy(golden_arrays("rng")[f"{source}|plain"])
    for image, seed in enumerate((1234, 99)):
        noise = image_noise(source, seed, (4, 8, 8))
        drawn = torch.stack([noise() for _ in range(3)])
        torch.testing.assert_close(drawn, expected[:, image], rtol=0, atol=0)
