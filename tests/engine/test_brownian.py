"""Brownian paths, against torchsde's as the WebUI draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cloudbrush.engine.brownian import BrownianPath
from tests.golden.load import golden_arrays

PAIRS = [(14.6146, 10.0), (10.0, 5.0), (5.0, 1.0), (1.0, 0.1), (7.0, 3.0)]


def path(seed: int = 1234, source: str = "CPU") -> BrownianPath:
    return BrownianPath(source, seed, (4, 8, 8), 0.0292, 14.6146)


@pytest.mark.parametrize("pair", range(len(PAIRS)))
def test_increments_equal_the_webui(pair: int) -> None:
    expected = torch.from_numpy(golden_arrays("rng")["brownian|seedlist"][pair])
    drawn = torch.stack([path(seed)(*PAIRS[pair]) for seed in (1234, 99)])
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)


def test_published_increment() -> None:
    """Specification 3.1, between the model's ends as 3.2 counts them, with the signal's share in float32."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    shares = np.cumprod(1 - betas)[[0, -1]].astype(np.float32)
    low, high = np.sqrt((1 - shares) / shares)
    walk = BrownianPath("CPU", 123, (4, 8, 8), float(low), float(high))
    drawn = walk(9.1029, 14.6146).flatten()[:4].tolist()
    assert drawn == pytest.approx([-0.3777688, 0.0690994, -1.1917415, 0.2571529], abs=1e-6)


def test_sigmas_count_in_single_precision() -> None:
    """The WebUI's are float32 before they are rounded to six places."""
    sigma = 7.4371235  # float32 holds 7.4371233
    assert torch.equal(path()(sigma, 1.0), path()(float(np.float32(sigma)), 1.0))


def test_the_order_of_questions_does_not_matter() -> None:
    forth, back = path(), path()
    there = [forth(*pair) for pair in PAIRS]
    again = [back(*pair) for pair in reversed(PAIRS)][::-1]
    for one, other in zip(there, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_increments_add_up_and_change_sign_with_direction() -> None:
    walk = path()
    whole = walk(10, 1) * 3
    parts = walk(10, 4) * 6**0.5 + walk(4, 1) * 3**0.5
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(walk(1, 10), -walk(10, 1), rtol=0, atol=0)


def test_beyond_the_ends_the_path_stands_still() -> None:
    walk = path()
    assert walk(20, 15).abs().max() == 0


@pytest.mark.parametrize("source", ["CPU", "NV"])
def test_increments_are_standard_normal(source: str) -> None:
    walk = BrownianPath(source, 7, (4, 32, 32), 0.0292, 14.6146)
    for pair in PAIRS:
        drawn = walk(*pair).numpy()
        assert abs(np.mean(drawn)) < 0.06
        assert abs(np.std(drawn) - 1) < 0.06
