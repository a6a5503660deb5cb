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

    @property
    def automatic_schedule(self) -> str:
        """The schedule that Automatic comes down to."""
        return self.own_schedule or UNIFORM


@dataclass(frozen=True)
class Schedule:
    """A schedule type as people choose it; its formula lives in `engine.schedules`."""

    name: str
    aliases: tuple[str, ...] = ()


# In the order of the WebUI's lists.
SAMPLERS = (
    Sampler("DPM++ 2M", ("k_dpmpp_2m",), own_schedule="Karras"),
    Sampler("Euler a", ("k_euler_a", "k_euler_ancestral")),
    Sampler("Euler", ("k_euler",)),
)
SCHEDULES = (
    Schedule(AUTOMATIC),
    Schedule(UNIFORM),
    Schedule("Karras"),
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
    named = find_schedule(schedule) if schedule else None
    for item in SCHEDULES:
        for suffix in (item.name, *item.aliases):
            if name.endswith(" " + suffix):
                name, named = name.removesuffix(suffix).rstrip(), item
                break
    found = next((item for item in SAMPLERS if item.name == name), DEFAULT_SAMPLER)
    if named is None or named.name == found.own_schedule:
        return found, AUTOMATIC
    return found, named.name
