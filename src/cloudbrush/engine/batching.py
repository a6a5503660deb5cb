"""One thread that drives the samplers of all running images over shared UNet calls.

Samplers ask, the batcher groups what fits one call (same model with the same networks in it, same
latent shape), and all move on together.
Images join and leave between calls and know nothing of each other.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from cloudbrush.domain.errors import CloudbrushError, GenerationFailed
from cloudbrush.engine.denoiser import Denoiser, Prediction, Request
from cloudbrush.engine.events import Cancelled
from cloudbrush.engine.samplers import PairSampling, Sampling, State

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 8  # calls with the networks that are in a denoiser while others wait for other networks

# Told after each prediction: the denoised latents, and the sigma asked for next (None: the image is done).
OnPrediction = Callable[[Tensor, float | None], None]
# Who is asked for the prediction of that number, from 0, at that state; asked once for each, in order.
Ask = Callable[[int, Tensor, float], tuple[Denoiser, Request]]
Restore = Callable[[Tensor], Tensor]  # denoised latents with what is known of the image put back


class Image:
    """One image being sampled."""

    denoiser: Denoiser  # that its request is for; another one from some request on, if a refiner takes over

    def __init__(
        self,
        sampling: Sampling | PairSampling,
        ask: Ask,
        cancelled: threading.Event,
        on_prediction: OnPrediction,
        *,
        restore: Restore | None = None,
        wants_negative: bool = False,
    ) -> None:
        self.result: Future[Tensor] = Future()
        self._sampling = sampling
        self._ask_at = ask
        self._evaluations = 0
        self._cancelled = cancelled
        self._on_prediction = on_prediction
        self._restore = restore
        self._wants_negative = wants_negative
        self.request: Request | None = None
        self._begin()

    @property
    def kind(self) -> Hashable:
        """What images must have in common to share a UNet call."""
        assert self.request is not None
        return id(self.denoiser), self.request.x.shape, self.request.guidance.extras.denoiser_key

    @property
    def ready(self) -> bool:
        """Whether its denoiser has just the networks in it that the image wants."""
        assert self.request is not None
        return self.denoiser.ready_for(self.request.guidance.extras)

    @property
    def rows(self) -> int:
        """Rows it takes of a UNet call."""
        assert self.request is not None
        return self.request.guidance.rows

    def answered(self, prediction: Prediction) -> None:
        """Move on with a prediction, to the next request or to the end."""
        if self._restore is not None:
            prediction = Prediction(*map(self._restore, prediction))
        final = self._advance(prediction)
        self._on_prediction(prediction.denoised, self.request.sigma if self.request else None)
        if final is not None:
            self.result.set_result(final)

    def failed(self, error: Exception) -> None:
        """End with an error, unless it has ended."""
        self.request = None
        if not self.result.done():
            self.result.set_exception(error)

    def drop_if_cancelled(self) -> bool:
        """Whether it was called off, in which case it has ended now."""
        if self._cancelled.is_set() and self.request is not None:
            self.failed(Cancelled("the generation was cancelled"))
        return self.request is None

    def _begin(self) -> None:
        try:
            self._ask(next(self._sampling))
        except StopIteration as end:  # a sampler that needs no prediction at all
            self.result.set_result(end.value)

    def _advance(self, prediction: Prediction) -> Tensor | None:
        """Hand the sampler its prediction; the final latents when it asks for no other."""
        try:
            sent: Any = prediction if self._wants_negative else prediction.denoised
            self._ask(self._sampling.send(sent))
        except StopIteration as end:
            self.request = None
            final: Tensor = end.value
            return final
        return None

    def _ask(self, state: State) -> None:
        x, sigma = state
        self.denoiser, self.request = self._ask_at(self._evaluations, x, sigma)
        self._evaluations += 1


class Batcher:
    """Samples images together; `start` from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Image] = deque()  # who waits longest stands first
        self._passed_over = 0  # calls since the one who waits longest was first put off
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="denoise", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether images that are started will be sampled."""
        return self._thread.is_alive()

    def start(self, image: Image) -> Future[Tensor]:
        """Sample an image; the result is its final latents, or the error that ended it."""
        with self._changed:
            if self._closed:
                image.failed(Cancelled("the engine is closed"))
            elif image.request is not None:
                self._waiting.append(image)
                self._changed.notify()
        return image.result

    def close(self) -> None:
        """End all images and the thread; returns when the current UNet call is over."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while group := self._next_group():
                self._answer(group)
                with self._changed:
                    self._waiting.extend(image for image in group if image.request is not None)
        for image in self._waiting:
            image.failed(Cancelled("the engine is closed"))

    def _next_group(self) -> list[Image]:
        """The images of the next UNet call: the first in turn, and all that fit in with it."""
        with self._changed:
            while True:
                self._waiting = deque(image for image in self._waiting if not image.drop_if_cancelled())
                if self._closed:
                    return []
                if self._waiting:
                    return self._take()
                self._changed.wait()

    def _take(self) -> list[Image]:
        first = self._first()
        assert first.request is not None
        allowed = first.denoiser.rows_at_once(first.request.x)
        group: list[Image] = []
        rows = 0
        for image in self._waiting:
            fits = not group or rows + image.rows <= allowed
            if fits and image.kind == first.kind:
                group.append(image)
                rows += image.rows
        taken = set(map(id, group))
        self._waiting = deque(image for image in self._waiting if id(image) not in taken)
        return group

    def _first(self) -> Image:
        """Who waits longest; but who needs no networks merged, which takes a while, may go before."""
        longest = self._waiting[0]
        first = next((image for image in self._waiting if image.ready), longest)
        if first is longest or self._passed_over == MOST_IN_A_ROW:
            self._passed_over = 0
            return longest
        self._passed_over += 1
        return first

    def _answer(self, group: list[Image]) -> None:
        try:
            requests = [image.request for image in group if image.request is not None]
            predictions = group[0].denoiser.predict(requests)
        except Exception as error:
            self._find_culprit(group, error)
            return
        for image, prediction in zip(group, predictions, strict=True):
            try:
                image.answered(prediction)
            except Exception as error:
                image.failed(_explained(error))

    def _find_culprit(self, group: list[Image], error: Exception) -> None:
        """What broke a call of many may be the fault of one: ask again, each alone."""
        if len(group) == 1:
            group[0].failed(_explained(error))
            return
        for image in group:
            self._answer([image])


def _explained(error: Exception) -> Exception:
    if isinstance(error, CloudbrushError):
        return error
    log.error("sampling broke", exc_info=error)
    return GenerationFailed(f"sampling broke: {type(error).__name__}: {error}"[:500])
