"""Brownian motion over the noise levels, for samplers of stochastic differential equations (3.1).

The path of a seed is the same wherever and in whatever order it is asked for: a dyadic tree of Brownian
bridges (Li et al. 2020, "Scalable gradients for stochastic differential equations"). Its nodes are numbered
as those of torchsde 0.2.6, which the WebUI uses, so that the same seed gives the same path.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from torch import Tensor

from cloudbrush.engine.noise import image_noise

DIGITS = 6  # noise levels are told apart to this many decimal places
_POOL = 24  # words of entropy in the seed sequence
_KEPT_NODES = 64  # tensors; queries near each other share the upper part of the tree

Brownian = Callable[[float, float], Tensor]  # noise of unit variance for the step from one sigma to another


class BrownianPath:
    """The path of one image between its lowest and highest sigma; called with two sigmas, in any order."""

    def __init__(self, source: str, seed: int, shape: tuple[int, ...], low: float, high: float) -> None:
        self._source = source
        self._seed = seed
        self._shape = shape
        low, high = _single(low), _single(high)
        self._low, self._high = round(low, DIGITS), round(high, DIGITS)
        self._whole = self._normal() * math.sqrt(high - low)
        self._nodes: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._points: OrderedDict[float, Tensor] = OrderedDict()

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """The path's increment over its standard deviation; float32, where the source makes its numbers."""
        length = abs(sigma_next - sigma)
        return ((self._at(sigma_next) - self._at(sigma)) / math.sqrt(length)).float()

    def _at(self, sigma: float) -> Tensor:
        place = round(min(max(_single(sigma), self._low), self._high), DIGITS)
        if place not in self._points:
            self._points[place] = self._descend(place)
            if len(self._points) > 4:  # of this step and the one before
                self._points.popitem(last=False)
        return self._points[place]

    def _descend(self, place: float) -> Tensor:
        """Where the path is at `place`, by halving the interval that holds it."""
        start, end, increment = self._low, self._high, self._whole
        before = increment * 0
        number, depth = 0, 0
        while place != start and place != end:
            middle = round(0.5 * (start + end), DIGITS)
            share = (middle - start) / (end - start)
            spread = math.sqrt((middle - start) * (end - middle) / (end - start))
            left = increment * share + self._node(number, depth) * spread
            if place <= middle:
                end, increment, number = middle, left, 2 * number
            else:
                before = before + left
                start, increment, number = middle, increment - left, 2 * number + 1
            depth += 1
        return before if place == start else before + increment

    def _node(self, number: int, depth: int) -> Tensor:
        key = (number, depth)
        if key not in self._nodes:
            self._nodes[key] = self._normal(key)
            if len(self._nodes) > _KEPT_NODES:
                self._nodes.popitem(last=False)
        self._nodes.move_to_end(key)
        return self._nodes[key]

    def _normal(self, spawn_key: tuple[int, ...] = ()) -> Tensor:
        sequence = np.random.SeedSequence(self._seed, spawn_key=spawn_key, pool_size=_POOL)
        seed = int(sequence.generate_state(4)[0])
        return image_noise(self._source, seed, self._shape)().double()


def _single(sigma: float) -> float:
    """A sigma in single precision, in which the WebUI has them before it rounds."""
    return float(np.float32(sigma))
