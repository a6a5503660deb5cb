"""Names of sampling methods and schedules, and the facts about them that do not need their mathematics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

AUTOMATIC = "Automatic"
UNIFORM = "Uniform"


@dataclass(frozen=True)
class Sampler:
    """A sampling method as people choose it; its algorithm lives in `engine.samplers`."""

    name: str
    aliases: tuple[str, ...]
    own_schedule: str | None = None  # what Automatic stands for, and is written as in infotexts
    second_order: bool = False  # asks for two predictions a step, and prompt editing counts both
    discards_penultimate: bool = False  # plans a step more and leaves the last sigma but one out
    fewest_steps: int = 1

    @property
    def automatic_schedule(self) -> str:
        """The schedule that Automatic comes down to."""
        return self.own_schedule or UNIFORM


@dataclass(frozen=True)
class Schedule:
    """A schedule type as people choose it; its formula lives in `engine.schedules`."""

    name: str
    aliases: tuple[str, ...]  # the first is what the WebUI calls it inside


# In the order of the WebUI's lists, Forge's additions among them.
SAMPLERS = (
    Sampler("DPM++ 2M", ("k_dpmpp_2m",), "Karras"),
    Sampler("DPM++ SDE", ("k_dpmpp_sde",), "Karras", second_order=True),
    Sampler("DPM++ 2M SDE", ("k_dpmpp_2m_sde",), "Exponential"),
    Sampler("DPM++ 2M SDE Heun", ("k_dpmpp_2m_sde_heun",), "Exponential"),
    Sampler("DPM++ 2S a", ("k_dpmpp_2s_a",), "Karras", second_order=True),
    Sampler("DPM++ 3M SDE", ("k_dpmpp_3m_sde",), "Exponential", discards_penultimate=True),
    Sampler("Euler a", ("k_euler_a", "k_euler_ancestral")),
    Sampler("Euler", ("k_euler",)),
    Sampler("LMS", ("k_lms",)),
    Sampler("Heun", ("k_heun",), second_order=True),
    Sampler("DPM2", ("k_dpm_2",), "Karras", second_order=True, discards_penultimate=True),
    Sampler("DPM2 a", ("k_dpm_2_a",), "Karras", second_order=True, discards_penultimate=True),
    Sampler("DPM fast", ("k_dpm_fast",)),
    Sampler("DPM adaptive", ("k_dpm_ad",)),
    Sampler("Restart", ("restart",), "Karras", second_order=True),
    Sampler("HeunPP2", ("heunpp2",)),
    Sampler("IPNDM", ("ipndm",)),
    Sampler("IPNDM_V", ("ipndm_v",)),
    Sampler("DEIS", ("deis",)),
    Sampler("DDIM", ("ddim",)),
    Sampler("DDIM CFG++", ("ddim_cfgpp",)),
    Sampler("PLMS", ("plms",)),
    Sampler("UniPC", ("unipc",), fewest_steps=3),
    Sampler("LCM", ("k_lcm",)),
    Sampler("DDPM", ("ddpm",)),
)
SCHEDULES = (
    Schedule(AUTOMATIC, ("automatic",)),
    Schedule(UNIFORM, ("uniform",)),
    Schedule("Karras", ("karras",)),
    Schedule("Exponential", ("exponential",)),
    Schedule("Polyexponential", ("polyexponential",)),
    Schedule("SGM Uniform", ("sgm_uniform", "SGMUniform")),
    Schedule("KL Optimal", ("kl_optimal",)),
    Schedule("Align Your Steps", ("align_your_steps",)),
    Schedule("Simple", ("simple",)),
    Schedule("Normal", ("normal",)),
    Schedule("DDIM", ("ddim",)),
    Schedule("Beta", ("beta",)),
    Schedule("Turbo", ("turbo",)),
    Schedule("Align Your Steps GITS", ("align_your_steps_GITS",)),
    Schedule("Align Your Steps 11", ("align_your_steps_11",)),
    Schedule("Align Your Steps 32", ("align_your_steps_32",)),
)
DEFAULT_SAMPLER = SAMPLERS[0]


def find_sampler(name: str) -> Sampler | None:
    """The sampler called `name` or one of its aliases, in any case."""
    return _find(name, SAMPLERS)


def find_schedule(name: str) -> Schedule | None:
    """The schedule called `name` or one of its aliases, in any case."""
    return _find(name, SCHEDULES)


Named = TypeVar("Named", Sampler, Schedule)


def _find(name: str, known: tuple[Named, ...]) -> Named | None:
    wanted = name.casefold()
    for item in known:
        if wanted == item.name.casefold() or wanted in (alias.casefold() for alias in item.aliases):
            return item
    return None


def resolve_schedule(sampler: Sampler, schedule: str) -> str:
    """The schedule that is really used: Automatic stands for the sampler's own (specification 3.4)."""
    return sampler.automatic_schedule if schedule == AUTOMATIC else schedule


def schedule_label(sampler: Sampler, schedule: str) -> str:
    """The schedule as infotexts name it: Automatic only where the sampler has none of its own."""
    return sampler.own_schedule or AUTOMATIC if schedule == AUTOMATIC else schedule


def from_recorded(sampler: str | None, schedule: str | None) -> tuple[Sampler, str]:
    """The sampler and schedule an infotext or request means, old names such as "DPM++ 2M Karras" included.

    A schedule in the sampler's name wins over the other one; an unknown sampler means the first of the list,
    and a sampler's own schedule is called Automatic, both as in the WebUI.
    """
    name = sampler or ""
    named = next((item for item in SCHEDULES if schedule in (item.name, item.aliases[0])), None)
    for item in SCHEDULES:
        for suffix in (item.name, *item.aliases):
            if name.endswith(" " + suffix):
                name, named = name.removesuffix(" " + suffix), item
                break
    found = next((item for item in SAMPLERS if item.name == name), DEFAULT_SAMPLER)
    if named is None or named.name == found.own_schedule:
        return found, AUTOMATIC
    return found, named.name
