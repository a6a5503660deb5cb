"""What every sampler shares: its form, its options and the arithmetic of an ancestral step."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from cloudbrush.engine.noise import Noise

# Yields (x, sigma) and is sent the denoised prediction there; returns the final latents.
State = tuple[Tensor, float]
Sampling = Generator[State, Tensor, Tensor]
# The same, but is sent two predictions: the guided one and that of the negative prompt alone.
PairSampling = Generator[State, tuple[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Options:
    """What people may set about a sampler; the defaults are the WebUI's."""

    eta: float = 1.0  # how much of an ancestral or stochastic step is new noise
    eta_ddim: float = 0.0  # the same for DDIM
    churn: float = 0.0  # noise added before deterministic steps, over the whole run
    churn_from: float = 0.0  # sigmas between which it is added
    churn_until: float = math.inf
    noise_scale: float = 1.0  # of all noise added on the way
    over_image: bool = False  # begins with a noised image, below the model's highest noise level


def slope(x: Tensor, sigma: float, denoised: Tensor) -> Tensor:
    """dx/dsigma of the probability-flow ODE (Karras et al. 2022, eq. 3)."""
    return (x - denoised) / sigma


def ancestral_split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """The noise level to step down to, and the noise to add there, to arrive at `sigma_next`."""
    if not eta:
        return sigma_next, 0.0
    up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return math.sqrt(sigma_next**2 - up**2), up


def churned(x: Tensor, sigma: float, steps: int, noise: Noise, options: Options) -> State:
    """The state with the share of churn that falls on one of `steps` steps (Karras et al. 2022, alg. 2)."""
    if not options.churn:
        return x, sigma
    drawn = noise()  # in every step, used or not
    if not options.churn_from <= sigma <= options.churn_until:
        return x, sigma
    higher = sigma * (1 + min(options.churn / steps, math.sqrt(2) - 1))
    return x + drawn * (options.noise_scale * math.sqrt(higher**2 - sigma**2)), higher
