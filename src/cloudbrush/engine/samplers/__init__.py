"""Sampling methods: one generator function per algorithm, yielding where it wants a denoised prediction."""

from __future__ import annotations

from collections.abc import Callable

from cloudbrush.engine.samplers.base import Options, Sampling, State
from cloudbrush.engine.samplers.dpmpp_2m import dpmpp_2m
from cloudbrush.engine.samplers.euler import euler
from cloudbrush.engine.samplers.euler_ancestral import euler_ancestral

__all__ = ["SAMPLERS", "Options", "Sampling", "State"]

SAMPLERS: dict[str, Callable[..., Sampling]] = {
    "DPM++ 2M": dpmpp_2m,
    "Euler a": euler_ancestral,
    "Euler": euler,
}
