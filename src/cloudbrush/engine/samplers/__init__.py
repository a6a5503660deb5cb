"""Sampling methods: one generator function per algorithm, yielding where it wants a denoised prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from cloudbrush.engine.samplers.base import Options, PairSampling, Sampling, State
from cloudbrush.engine.samplers.ddim import ddim, ddim_cfgpp
from cloudbrush.engine.samplers.ddpm import ddpm
from cloudbrush.engine.samplers.deis import deis
from cloudbrush.engine.samplers.dpm2 import dpm2, dpm2_ancestral
from cloudbrush.engine.samplers.dpm_solver import dpm_adaptive, dpm_fast
from cloudbrush.engine.samplers.dpmpp_2m import dpmpp_2m
from cloudbrush.engine.samplers.dpmpp_2m_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun
from cloudbrush.engine.samplers.dpmpp_2s_ancestral import dpmpp_2s_ancestral
from cloudbrush.engine.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from cloudbrush.engine.samplers.dpmpp_sde import dpmpp_sde
from cloudbrush.engine.samplers.euler import euler
from cloudbrush.engine.samplers.euler_ancestral import euler_ancestral
from cloudbrush.engine.samplers.heun import heun
from cloudbrush.engine.samplers.heunpp2 import heunpp2
from cloudbrush.engine.samplers.ipndm import ipndm, ipndm_v
from cloudbrush.engine.samplers.lcm import lcm
from cloudbrush.engine.samplers.lms import lms
from cloudbrush.engine.samplers.plms import plms
from cloudbrush.engine.samplers.restart import restart
from cloudbrush.engine.samplers.unipc import unipc

__all__ = ["SAMPLERS", "Algorithm", "Options", "PairSampling", "Sampling", "State", "Walk"]


class Walk(Enum):
    """What an algorithm goes along."""

    SIGMAS = auto()  # a schedule
    BROWNIAN = auto()  # a schedule, with noise from a Brownian path
    CALLS = auto()  # steps of its own choice, so many calls
    TOLERANCE = auto()  # steps of its own choice, as few as an error allows
    CONSISTENCY = auto()  # the grid of a consistency distillation
    TIMESTEPS = auto()  # integer timesteps of the model


@dataclass(frozen=True)
class Algorithm:
    """A sampler's generator function and what it goes along."""

    function: Callable[..., Sampling | PairSampling]
    walk: Walk = Walk.SIGMAS
    wants_negative: bool = False  # is sent the negative prompt's prediction, too
    guidance_divisor: float = 1.0  # the CFG scale means so much less to it
    scales_noise: bool = False  # people may set the scale of the noise it adds


SAMPLERS: dict[str, Algorithm] = {
    "DPM++ 2M": Algorithm(dpmpp_2m),
    "DPM++ SDE": Algorithm(dpmpp_sde, Walk.BROWNIAN, scales_noise=True),
    "DPM++ 2M SDE": Algorithm(dpmpp_2m_sde, Walk.BROWNIAN, scales_noise=True),
    "DPM++ 2M SDE Heun": Algorithm(dpmpp_2m_sde_heun, Walk.BROWNIAN, scales_noise=True),
    "DPM++ 2S a": Algorithm(dpmpp_2s_ancestral, scales_noise=True),
    "DPM++ 3M SDE": Algorithm(dpmpp_3m_sde, Walk.BROWNIAN, scales_noise=True),
    "Euler a": Algorithm(euler_ancestral),
    "Euler": Algorithm(euler, scales_noise=True),
    "LMS": Algorithm(lms),
    "Heun": Algorithm(heun, scales_noise=True),
    "DPM2": Algorithm(dpm2, scales_noise=True),
    "DPM2 a": Algorithm(dpm2_ancestral, scales_noise=True),
    "DPM fast": Algorithm(dpm_fast, Walk.CALLS, scales_noise=True),
    "DPM adaptive": Algorithm(dpm_adaptive, Walk.TOLERANCE),
    "Restart": Algorithm(restart),
    "HeunPP2": Algorithm(heunpp2),
    "IPNDM": Algorithm(ipndm),
    "IPNDM_V": Algorithm(ipndm_v),
    "DEIS": Algorithm(deis),
    "DDIM": Algorithm(ddim, Walk.TIMESTEPS),
    "DDIM CFG++": Algorithm(ddim_cfgpp, Walk.TIMESTEPS, wants_negative=True, guidance_divisor=12.5),
    "PLMS": Algorithm(plms, Walk.TIMESTEPS),
    "UniPC": Algorithm(unipc, Walk.TIMESTEPS),
    "LCM": Algorithm(lcm, Walk.CONSISTENCY),
    "DDPM": Algorithm(ddpm),
}
