"""Group norms made quick give torch's numbers, and training steps can be resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.pocket import autoencoder, layout, optim, quick, reading, scenes
from training.pocket.pool import CHUNK, Pool
from training.pocket.run import Run


@pytest.mark.parametrize("side", [4, 7])
def test_quick_group_norm_equals_torch_s(side: int) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (torch.randn(3, 16, side, side) + 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    towards = torch.randn(3, 16, side, side)
    found = []
    for _ in range(2):
        norm.zero_grad()
        x.grad = None
        y = norm(x)
        y.backward(towards)
        found.append((y.detach(), x.grad, norm.weight.grad.clone(), norm.bias.grad.clone()))
        quick.quicken(norm)
    for plain, quicker in zip(*found, strict=True):
        torch.testing.assert_close(quicker, plain, rtol=1e-4, atol=1e-4)


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [optim.trapezoid(share) for share in (0.0, 0.01, 0.02, 0.6, 0.65, 0.825, 1.0)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, 1.0, 0.5, 0.01])


def test_label_maps_show_each_object() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        scene = scenes.sample(rng)
        kinds, tints = layout.labels(scene, 16, 16)
        assert {scenes.SHAPES[i - 1] for i in np.unique(kinds) if i} == {t.shape for t in scene.things}
        expected = {scene.colour, *(t.colour for t in scene.things)}
        assert {list(scenes.COLOURS)[i] for i in np.unique(tints)} == expected


def test_a_pool_is_the_same_after_a_stop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = autoencoder.Autoencoder().eval()
    first = Pool((8, 8), seed=1)
    first.grow(model, 1, "cpu")
    first.save(tmp_path)
    second = Pool((8, 8), seed=1)
    second.restore(tmp_path)
    assert len(second.scenes) == CHUNK
    draws = [pool.draw(np.random.default_rng(3), 4, among=CHUNK) for pool in (first, second)]
    for before, after in zip(*draws, strict=True):
        assert before == after if isinstance(before, list) else before.equal(after)


def test_reading_resumes_where_it_stopped(tmp_path: Path) -> None:
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    reading.train(whole, 2)
    reading.train(parts, 1)
    reading.train(parts, 2)
    assert parts.state("text").step == 2
    assert reading.load(whole).keys() == reading.load(parts).keys()
