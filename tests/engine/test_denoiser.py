"""Predictions: scaling, guidance, packing of many requests, and memory that runs out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.engine.denoiser import Denoiser, Request
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.guidance import Condition, Guidance
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.models.single_file import load_single_file
from cloudbrush.engine.sigmas import ModelSigmas

WIDTH = 8  # of the tiny text encoder
PLACES = 64  # of the latents here
TIMESTEP = ModelSigmas.sd().timestep


@pytest.fixture(scope="module")
def checkpoint(tiny: ModelFile) -> Checkpoint:
    return load_single_file(tiny.path, name="tiny", sha256="", placement=Placement(torch.device("cpu")))


def text(tokens: int, seed: int) -> Condition:
    return Condition(torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed)))


def request(
    seed: int = 0, sigma: float = 3.0, scale: float = 7.0, tokens: int = 77, against: int = 77
) -> Request:
    x = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) * sigma
    return Request(
        x, sigma, TIMESTEP(sigma), Guidance(((text(tokens, seed + 1), 1.0),), text(against, seed + 2), scale)
    )


@torch.inference_mode()
def one_row(checkpoint: Checkpoint, asked: Request, condition: Condition) -> Tensor:
    """x0 under one text, written out from specification 3.2."""
    words = condition.vectors
    sigma = asked.sigma
    t = torch.tensor([checkpoint.sigmas.timestep(sigma)])
    sample = asked.x[None] / math.sqrt(sigma**2 + 1)
    f = checkpoint.unet(sample, t, encoder_hidden_states=words[None]).sample[0]
    if checkpoint.info.prediction == "v":
        return asked.x / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * f
    return asked.x - sigma * f


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_guidance_goes_from_the_negative_towards_the_positive(
    checkpoint: Checkpoint, prediction: str
) -> None:
    model = replace(checkpoint, info=replace(checkpoint.info, prediction=prediction))
    asked = request(sigma=2.345)
    (positive, _), negative = asked.guidance.positive[0], asked.guidance.negative
    with_positive, with_negative = one_row(model, asked, positive), one_row(model, asked, negative)
    ((denoised, alone),) = Denoiser(model, 8 * PLACES).predict([asked])
    torch.testing.assert_close(alone, with_negative, rtol=1e-4, atol=1e-4)
    expected = with_negative + 7 * (with_positive - with_negative)
    torch.testing.assert_close(denoised, expected, rtol=1e-4, atol=1e-4)


def test_parts_add_their_weighted_differences(checkpoint: Checkpoint) -> None:
    asked = request()
    parts = ((text(77, 5), 1.2), (text(154, 6), -0.5))
    asked = replace(asked, guidance=replace(asked.guidance, positive=parts))
    short = parts[0][0].vectors
    padded = Condition(torch.cat([short, short[-1:].expand(77, -1)]))  # to the longest, by its last token
    negative = one_row(checkpoint, asked, asked.guidance.negative)
    expected = negative + 7 * 1.2 * (one_row(checkpoint, asked, padded) - negative)
    expected = expected - 7 * 0.5 * (one_row(checkpoint, asked, parts[1][0]) - negative)
    ((denoised, _),) = Denoiser(checkpoint, 8 * PLACES).predict([asked])
    torch.testing.assert_close(denoised, expected, rtol=1e-4, atol=1e-4)


def test_without_the_negative_prompt_the_first_part_stands_in_for_it_at_scale_1(
    checkpoint: Checkpoint,
) -> None:
    """Specification 3.3: C0 + sum of w (C - C0), which for a plain prompt is C."""
    plain = request(scale=9.0)
    plain = replace(plain, guidance=replace(plain.guidance, negative=None))
    ((denoised, base),) = Denoiser(checkpoint, 8 * PLACES).predict([plain])
    expected = one_row(checkpoint, plain, plain.guidance.positive[0][0])
    torch.testing.assert_close(denoised, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(base, expected, rtol=1e-4, atol=1e-4)
    parts = ((text(77, 5), 1.2), (text(77, 6), -0.5))
    joined = replace(plain, guidance=replace(plain.guidance, positive=parts))
    first, second = (one_row(checkpoint, joined, part) for part, _ in parts)
    ((denoised, _),) = Denoiser(checkpoint, 8 * PLACES).predict([joined])
    torch.testing.assert_close(denoised, first - 0.5 * (second - first), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("prediction", "rescales"), [("v", True), ("epsilon", False)])
def test_models_of_v_may_ask_for_a_rescaled_guidance(
    checkpoint: Checkpoint, prediction: str, rescales: bool
) -> None:
    """Lin et al. 2024 (arXiv 2305.08891), equations 14 to 16, over the denoiser's own output v."""
    share = 0.7
    info = replace(checkpoint.info, prediction=prediction, cfg_rescale=share)
    model = replace(checkpoint, info=info)
    asked = request(sigma=2.0)
    (positive, _), negative = asked.guidance.positive[0], asked.guidance.negative
    x, total, scale = asked.x, asked.sigma**2 + 1, asked.sigma / math.sqrt(asked.sigma**2 + 1)
    plain, against = one_row(model, asked, positive), one_row(model, asked, negative)
    guided = against + 7 * (plain - against)
    if rescales:
        v, v_plain = (x / total - guided) / scale, (x / total - plain) / scale
        rescaled = v * v_plain.std() / v.std()
        guided = x / total - scale * (share * rescaled + (1 - share) * v)
    ((denoised, _),) = Denoiser(model, 8 * PLACES).predict([asked])
    torch.testing.assert_close(denoised, guided, rtol=1e-4, atol=1e-4)


REQUESTS = [
    request(0),
    request(10, sigma=0.5, scale=1.0),
    request(20, sigma=14.6, tokens=154),
    request(30, sigma=0.03, tokens=154, against=231),
    request(40, sigma=1.0, scale=12.5),
]


@pytest.mark.parametrize("max_rows", [1, 3, 4, 100])
def test_packed_requests_equal_each_alone(checkpoint: Checkpoint, max_rows: int) -> None:
    packed = Denoiser(checkpoint, max_rows * PLACES).predict(REQUESTS)
    for asked, denoised in zip(REQUESTS, packed, strict=True):
        (alone,) = Denoiser(checkpoint, 100 * PLACES).predict([asked])
        assert_equal_but_for_rounding(denoised.denoised, alone.denoised, asked)


def assert_equal_but_for_rounding(one: Tensor, other: Tensor, asked: Request) -> None:
    """To 1e-5 of what sigma and guidance multiply the UNet's own rounding by."""
    unit = 1 + asked.sigma * asked.guidance.scale
    torch.testing.assert_close(one / unit, other / unit, rtol=0, atol=1e-5)


def test_larger_images_share_a_call_with_fewer_others(checkpoint: Checkpoint) -> None:
    denoiser = Denoiser(checkpoint, 16 * 64 * 64)
    sides = (8, 64, 128, 256, 512)
    assert [denoiser.rows_at_once(torch.empty(4, side, side)) for side in sides] == [64, 16, 4, 1, 1]


class Cramped(Denoiser):
    """A denoiser on a device with room for so many rows."""

    room = 3
    calls: list[int]

    def _call(self, rows: list) -> Tensor:
        self.calls.append(len(rows))
        if len(rows) > self.room:
            raise torch.OutOfMemoryError("no room")
        return super()._call(rows)


def test_a_batch_that_does_not_fit_is_split_and_the_lesson_kept(checkpoint: Checkpoint) -> None:
    denoiser = Cramped(checkpoint, 100 * PLACES)
    denoiser.calls = []
    asked = [request(seed) for seed in range(4)]
    packed = denoiser.predict(asked)
    assert denoiser.calls == [8, 4, 2, 2, 2, 2]
    assert denoiser.rows_at_once(asked[0].x) == 2
    for one, other, request_ in zip(
        packed, Denoiser(checkpoint, 8 * PLACES).predict(asked), asked, strict=True
    ):
        assert_equal_but_for_rounding(one.denoised, other.denoised, request_)


def test_a_row_that_does_not_fit_alone_is_explained(checkpoint: Checkpoint) -> None:
    denoiser = Cramped(checkpoint, 4 * PLACES)
    denoiser.calls, denoiser.room = [], 0
    with pytest.raises(GenerationFailed, match="64x64 does not fit") as refused:
        denoiser.predict([request()])
    assert refused.value.field == "width"
    assert refused.value.hint


def test_other_errors_are_not_taken_for_a_lack_of_memory(checkpoint: Checkpoint) -> None:
    with pytest.raises(RuntimeError):
        Denoiser(checkpoint, 4 * PLACES).predict([replace(request(), x=torch.zeros(3, 8, 8))])
