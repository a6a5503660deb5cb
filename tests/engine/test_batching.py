"""The batcher: who shares a call, who goes first, and whose fault an error is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby

import pytest
import torch

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.engine.batching import MOST_IN_A_ROW, Ask, Batcher, Image
from cloudbrush.engine.denoiser import Prediction, Request
from cloudbrush.engine.events import Cancelled
from cloudbrush.engine.extras import PLAIN, Extras
from cloudbrush.engine.guidance import Condition, Guidance
from cloudbrush.engine.networks.lora import Network
from cloudbrush.engine.networks.patches import Key, Wanted
from cloudbrush.engine.samplers import Sampling

CONDITION = Condition(torch.zeros(77, 8))
DEADLINE = 30


class Gate:
    """Stands for a denoiser: records the calls, lets the first one wait until the others have joined."""

    def __init__(self, max_rows: int = 16) -> None:
        self._max_rows = max_rows
        self.calls: list[list[float]] = []  # a mark of each image in each call
        self.merged: Key = ()
        self.first = threading.Event()
        self.opened = threading.Event()

    def rows_at_once(self, x: torch.Tensor) -> int:
        return self._max_rows

    def ready_for(self, extras: Extras) -> bool:
        return extras.merged == self.merged

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        self.calls.append([request.x.flatten()[0].item() for request in requests])
        self.merged = requests[0].guidance.extras.merged
        self.first.set()
        assert self.opened.wait(DEADLINE)
        if any(request.x.isnan().any() for request in requests):
            raise RuntimeError("one of these is poisoned")
        return [Prediction(request.x, request.x) for request in requests]


def sampling(mark: float, steps: int = 3, side: int = 4) -> Sampling:
    x = torch.full((1, side, side), mark)
    for step in range(steps):
        x = yield x, float(steps - step)
    return x + 0.5


@pytest.fixture
def batcher():
    batcher = Batcher()
    yield batcher
    batcher.close()


def image(
    gate: Gate,
    mark: float,
    cancelled: threading.Event | None = None,
    extras: Extras = PLAIN,
    **shape: int,
) -> Image:
    off = cancelled or threading.Event()
    return Image(sampling(mark, **shape), asking(gate, extras), off, lambda *_: None)


def asking(gate: Gate, extras: Extras = PLAIN) -> Ask:
    guidance = Guidance(((CONDITION, 1.0),), CONDITION, 7.0, extras)
    return lambda _evaluation, x, sigma: (gate, Request(x, sigma, sigma, guidance))


def start_together(batcher: Batcher, gate: Gate, *images: Image) -> list:
    """Start all images while the first call is held up, then let go."""
    opener = batcher.start(image(gate, 0.0, steps=1))
    assert gate.first.wait(DEADLINE)
    futures = [batcher.start(each) for each in images]
    gate.opened.set()
    opener.result(DEADLINE)
    return futures


def test_images_share_calls_and_each_gets_its_own_result(batcher: Batcher) -> None:
    gate = Gate()
    futures = start_together(batcher, gate, *(image(gate, mark) for mark in (1.0, 2.0, 3.0)))
    assert [future.result(DEADLINE).mean().item() for future in futures] == [1.5, 2.5, 3.5]
    assert gate.calls[1:] == [[1.0, 2.0, 3.0]] * 3


def test_other_sizes_and_other_models_get_calls_of_their_own(batcher: Batcher) -> None:
    gate, other = Gate(), Gate()
    other.opened.set()
    images = [image(gate, 1.0, steps=1), image(gate, 2.0, steps=1, side=8), image(other, 3.0, steps=1)]
    futures = start_together(batcher, gate, *images, image(gate, 4.0, steps=1))
    for future in futures:
        future.result(DEADLINE)
    assert gate.calls[1:] == [[1.0, 4.0], [2.0]]
    assert other.calls == [[3.0]]


def with_network(name: str, unet: float = 1.0) -> Extras:
    return Extras(loras=(Wanted(Network(name, name, "", name, None, (), (), ()), unet=unet),))


def test_images_with_the_same_networks_share_calls_and_others_do_not(batcher: Batcher) -> None:
    gate = Gate()
    images = [
        image(gate, 1.0, steps=1),
        image(gate, 2.0, steps=1, extras=with_network("a")),
        image(gate, 3.0, steps=1, extras=with_network("a", unet=0.5)),
        image(gate, 4.0, steps=1, extras=with_network("a")),
        image(gate, 5.0, steps=1, extras=with_network("b", unet=0.0)),
    ]
    for future in start_together(batcher, gate, *images):
        future.result(DEADLINE)
    assert gate.calls[1:] == [[1.0, 5.0], [2.0, 4.0], [3.0]]


def test_networks_change_seldom_but_nobody_waits_long(batcher: Batcher) -> None:
    gate, steps = Gate(), MOST_IN_A_ROW + 3
    images = [
        image(gate, 1.0, steps=steps, extras=with_network("a")),
        image(gate, 2.0, steps=steps),
        image(gate, 3.0, steps=steps, extras=with_network("b")),
    ]
    for future in start_together(batcher, gate, *images):
        future.result(DEADLINE)
    marks = [call[0] for call in gate.calls[1:]]
    turns = [len(list(calls)) for _, calls in groupby(marks)]
    assert max(turns) <= MOST_IN_A_ROW + 1
    assert len(turns) == 6  # two for each
    assert sorted(marks) == [1.0] * steps + [2.0] * steps + [3.0] * steps


def test_more_rows_than_fit_take_turns(batcher: Batcher) -> None:
    gate = Gate(max_rows=4)
    futures = start_together(batcher, gate, *(image(gate, mark, steps=2) for mark in (1.0, 2.0, 3.0)))
    for future in futures:
        future.result(DEADLINE)
    assert gate.calls[1:] == [[1.0, 2.0], [3.0, 1.0], [2.0, 3.0]]


def test_an_image_that_breaks_its_call_does_not_break_the_others(batcher: Batcher) -> None:
    gate = Gate()
    good, bad, fine = start_together(
        batcher, gate, image(gate, 1.0), image(gate, float("nan")), image(gate, 3.0)
    )
    assert good.result(DEADLINE).mean().item() == 1.5
    assert fine.result(DEADLINE).mean().item() == 3.5
    with pytest.raises(GenerationFailed, match="poisoned"):
        bad.result(DEADLINE)


def test_a_sampler_that_raises_ends_alone(batcher: Batcher) -> None:
    def broken() -> Sampling:
        yield torch.full((1, 4, 4), 9.0), 1.0
        raise ZeroDivisionError

    gate = Gate()
    bad, good = start_together(
        batcher,
        gate,
        Image(broken(), asking(gate), threading.Event(), lambda *_: None),
        image(gate, 1.0),
    )
    with pytest.raises(GenerationFailed, match="ZeroDivisionError"):
        bad.result(DEADLINE)
    assert good.result(DEADLINE).mean().item() == 1.5


def test_a_cancelled_image_takes_part_in_no_further_call(batcher: Batcher) -> None:
    gate, cancelled = Gate(), threading.Event()
    cancelled.set()
    off, on = start_together(batcher, gate, image(gate, 1.0, cancelled), image(gate, 2.0))
    with pytest.raises(Cancelled):
        off.result(DEADLINE)
    on.result(DEADLINE)
    assert all(1.0 not in call for call in gate.calls)


def test_closing_ends_what_waits() -> None:
    batcher, gate = Batcher(), Gate()
    running = batcher.start(image(gate, 1.0))
    assert gate.first.wait(DEADLINE)
    waiting = batcher.start(image(gate, 2.0, side=8))
    threading.Timer(0.05, gate.opened.set).start()  # close() waits for the call that is on its way
    batcher.close()
    for future in (running, waiting, batcher.start(image(gate, 3.0))):
        with pytest.raises(Cancelled):
            future.result(DEADLINE)


def test_who_is_asked_may_change_on_the_way(batcher: Batcher) -> None:
    first, second = Gate(), Gate()
    first.opened.set()
    second.opened.set()

    def ask(evaluation: int, x: torch.Tensor, sigma: float) -> tuple[Gate, Request]:
        return asking(first if evaluation < 2 else second)(evaluation, x, sigma)

    batcher.start(Image(sampling(1.0), ask, threading.Event(), lambda *_: None)).result(DEADLINE)
    assert (len(first.calls), len(second.calls)) == (2, 1)


def test_what_is_known_is_put_back_into_every_prediction(batcher: Batcher) -> None:
    gate, seen = Gate(), []
    gate.opened.set()
    restored = Image(
        sampling(1.0, steps=2),
        asking(gate),
        threading.Event(),
        lambda denoised, _sigma: seen.append(denoised.mean().item()),
        restore=lambda denoised: denoised + 10,
    )
    assert batcher.start(restored).result(DEADLINE).mean().item() == 21.5
    assert seen == [11.0, 21.0]
