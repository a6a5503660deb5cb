"""Random numbers, against the WebUI's draws."""

from __future__ import annotations

import pytest
import torch

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.engine.noise import Variation, image_noise, pasted, slerp
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


@pytest.mark.parametrize("case", golden("rng")["image_rng"], ids=lambda case: case["id"])
def test_an_images_draws_equal_the_webui(case: dict) -> None:
    expected = torch.from_numpy(golden_arrays("rng")[case["id"]])
    for image, seed in enumerate(case["seeds"]):
        variation = resized_from = None
        if "subseeds" in case:
            variation = Variation(case["subseeds"][image], case["subseed_strength"])
        if "seed_resize_from_h" in case:
            resized_from = (case["seed_resize_from_h"] // 8, case["seed_resize_from_w"] // 8)
        noise = image_noise(
            case["source"],
            seed,
            tuple(case["shape"]),
            variation=variation,
            resized_from=resized_from,
            seed_delta=case["ensd"],
        )
        drawn = torch.stack([noise() for _ in range(case["draws"])])
        torch.testing.assert_close(drawn, expected[:, image], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_slerp_equals_the_webui(share: float) -> None:
    one, other = (image_noise("CPU", seed, (4, 8, 8))() for seed in (1, 2))
    expected = torch.from_numpy(golden_arrays("rng")[f"slerp|{share}"])
    torch.testing.assert_close(slerp(share, one, other), expected, rtol=1e-5, atol=1e-6)


def test_slerp_of_nearly_equal_tensors_is_straight() -> None:
    one = torch.ones(4, 8, 8)
    torch.testing.assert_close(slerp(0.25, one, one * 2), one * 0.25 + one * 2 * 0.75)


def test_published_numbers() -> None:
    """Those the specification gives, of a reference run at 512 pixels."""
    shape = (4, 64, 64)
    varied = image_noise("CPU", 12345, shape, variation=Variation(777, 0.3))()
    assert varied.flatten()[:4].tolist() == pytest.approx(
        [-1.2421397, 0.4156939, -2.7390881, 0.0332223], abs=1e-6
    )
    assert varied.double().sum().item() == pytest.approx(-54.514, abs=1e-2)
    delta = image_noise("CPU", 12345, shape, seed_delta=31337)
    delta()
    assert delta().flatten()[:2].tolist() == pytest.approx([0.3749104, 0.1811818], abs=1e-6)
    nv = image_noise("NV", 12345, shape)
    first = nv()
    assert first.flatten()[:4].tolist() == pytest.approx(
        [0.5786413, -0.5247555, -0.2919037, 0.0140139], abs=1e-6
    )
    assert first.double().sum().item() == pytest.approx(-207.7339, abs=1e-3)
    assert nv().flatten()[0].item() == pytest.approx(2.7012851, abs=1e-6)
    zero = image_noise("NV", 0, shape)().flatten()[:4].tolist()
    assert zero == pytest.approx([-0.9246624, -0.4253440, -2.6438458, 0.1451839], abs=1e-6)
    cpu = image_noise("CPU", 12345, shape)
    first = cpu()
    assert first.flatten()[:4].tolist() == pytest.approx(
        [-1.4798077, 0.4873060, -3.0127938, 0.4438552], abs=1e-6
    )
    assert first.double().sum().item() == pytest.approx(-94.8553, abs=1e-3)
    assert cpu().flatten()[:2].tolist() == pytest.approx([-0.6980994, -0.2630799], abs=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpus_numbers_without_a_gpu_are_refused_with_the_way_out() -> None:
    with pytest.raises(GenerationFailed) as refused:
        image_noise("GPU", 1, (4, 8, 8))
    assert refused.value.field == "noise_source"
    assert refused.value.hint is not None
    assert "NV" in refused.value.hint


@pytest.mark.parametrize("source", ["NV", "CPU"])
def test_a_seed_delta_also_counts_after_another_first_noise(source: str) -> None:
    """Specification 3.1: only the first tensor knows of variation and other sizes."""
    shape = (4, 8, 8)
    plain = image_noise(source, 5, shape)
    plain()
    varied = image_noise(source, 5, shape, variation=Variation(9, 0.5))
    varied()
    assert torch.equal(plain(), varied())
    delta = image_noise(source, 5, shape, seed_delta=3, resized_from=(6, 4), variation=Variation(9, 0.5))
    delta()
    assert torch.equal(delta(), image_noise(source, 8, shape)())


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [(2, 6, [0, 0, 1, 2, 0, 0]), (3, 6, [0, 1, 2, 3, 0, 0]), (6, 2, [3, 4]), (5, 2, [3, 0])],
)
def test_pasting_centres_and_crops(inner: int, outer: int, expected: list[int]) -> None:
    small = torch.arange(1.0, inner + 1).expand(1, 1, inner)
    assert pasted(small, torch.zeros(1, 1, outer)).flatten().tolist() == expected
