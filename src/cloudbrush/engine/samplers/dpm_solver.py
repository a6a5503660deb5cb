"""DPM-Solver in steps of its own choice: "DPM fast" and "DPM adaptive"."""

from __future__ import annotations

import math
from collections.abc import Generator

from torch import Tensor

from cloudbrush.engine.noise import Noise
from cloudbrush.engine.samplers.base import Options, Sampling, State, ancestral_split, slope

# Lu et al. 2022 (arXiv 2206.00927) count in t = -ln sigma; `eps` is the slope dx/dsigma.
Solution = Generator[State, Tensor, Tensor]

RELATIVE_TOLERANCE = 0.05
ABSOLUTE_TOLERANCE = 0.0078
FIRST_STEP = 0.05  # in t
ACCEPT_SAFETY = 0.81
_END = 1e-5  # how near to the last t is there


def dpm_fast(
    x: Tensor, highest: float, lowest: float, calls: int, noise: Noise, options: Options
) -> Sampling:
    """DPM-Solver-fast: so many calls in all, in even steps of order 3 and a lower one to fit."""
    start, end = -math.log(highest), -math.log(lowest)
    count = calls // 3 + 1
    orders = [3] * (count - 2) + [2, 1] if calls % 3 == 0 else [3] * (count - 1) + [calls % 3]
    times = [start + (end - start) * step / count for step in range(count + 1)]
    for order, t, t_next in zip(orders, times, times[1:], strict=False):
        target, up = _target(t, t_next, end, options)
        eps = slope(x, math.exp(-t), (yield x, math.exp(-t)))
        if order == 1:
            x = _first_order(x, eps, t, target)
        elif order == 2:
            x = (yield from _second_order(x, eps, t, target, r=1 / 2))[0]
        else:
            x = yield from _third_order(x, eps, t, target)
        x = x + noise() * (options.noise_scale * up)
    return x


def dpm_adaptive(x: Tensor, highest: float, lowest: float, noise: Noise, options: Options) -> Sampling:
    """DPM-Solver-12/23's idea with orders 2 and 3: steps as long as their difference allows."""
    t, end = -math.log(highest), -math.log(lowest)
    steps = _StepSize(FIRST_STEP, order=1.5 if options.eta else 3)
    previous = x
    while t < end - _END:
        t_next = min(end, t + steps.size)
        target, up = _target(t, t_next, end, options)
        eps = slope(x, math.exp(-t), (yield x, math.exp(-t)))
        low, eps_1 = yield from _second_order(x, eps, t, target, r=1 / 3)
        high = yield from _third_order(x, eps, t, target, eps_1)
        allowed = (RELATIVE_TOLERANCE * low.abs().maximum(previous.abs())).clamp(min=ABSOLUTE_TOLERANCE)
        error = float(((low - high) / allowed).norm()) / math.sqrt(x.numel())
        if steps.accept(error):
            previous = low
            x = high + noise() * (options.noise_scale * up)
            t = t_next
    return x


class _StepSize:
    """The integral controller of the step size (Hairer, Norsett & Wanner 1993)."""

    def __init__(self, size: float, order: float) -> None:
        self.size = size
        self._order = order

    def accept(self, error: float) -> bool:
        """Whether a step with this error counts; adapts the size of the next one either way."""
        if not math.isfinite(error):
            raise ArithmeticError("the model's predictions are not numbers, so no step is small enough")
        factor = (1 / (error + 1e-8)) ** (1 / self._order)
        factor = 1 + math.atan(factor - 1)
        self.size *= factor
        return factor >= ACCEPT_SAFETY


def _target(t: float, t_next: float, end: float, options: Options) -> tuple[float, float]:
    """Where the deterministic part of a step ends, and the noise that leads from there to `t_next`."""
    if not options.eta:
        return t_next, 0.0
    down, _ = ancestral_split(math.exp(-t), math.exp(-t_next), options.eta)
    target = min(end, -math.log(down)) if down > 0 else end
    return target, math.sqrt(max(0.0, math.exp(-2 * t_next) - math.exp(-2 * target)))


def _first_order(x: Tensor, eps: Tensor, t: float, t_next: float) -> Tensor:
    return x - math.exp(-t_next) * math.expm1(t_next - t) * eps


def _second_order(
    x: Tensor, eps: Tensor, t: float, t_next: float, r: float
) -> Generator[State, Tensor, tuple[Tensor, Tensor]]:
    """DPM-Solver-2 with its inner point at the share r; also returns the slope found there."""
    h = t_next - t
    inner = t + r * h
    u = _first_order(x, eps, t, inner)
    eps_1 = slope(u, math.exp(-inner), (yield u, math.exp(-inner)))
    step = math.exp(-t_next) * math.expm1(h)
    return x - step * eps - step / (2 * r) * (eps_1 - eps), eps_1


def _third_order(x: Tensor, eps: Tensor, t: float, t_next: float, eps_1: Tensor | None = None) -> Solution:
    """DPM-Solver-3 with inner points at 1/3 and 2/3; `eps_1`: the slope at the first if it is known."""
    h = t_next - t
    first, second = t + h / 3, t + 2 * h / 3
    if eps_1 is None:
        u = _first_order(x, eps, t, first)
        eps_1 = slope(u, math.exp(-first), (yield u, math.exp(-first)))
    bend = math.exp(-second) * 2 * (_expm1_ratio(2 * h / 3) - 1)
    u = _first_order(x, eps, t, second) - bend * (eps_1 - eps)
    eps_2 = slope(u, math.exp(-second), (yield u, math.exp(-second)))
    bend = math.exp(-t_next) * 1.5 * (_expm1_ratio(h) - 1)
    return _first_order(x, eps, t, t_next) - bend * (eps_2 - eps)


def _expm1_ratio(h: float) -> float:
    return math.expm1(h) / h if h else 1.0
