"""What to paint: an immutable description, refused at the door when a value is unknown or out of range."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from cloudbrush.domain.sampling import AUTOMATIC, SAMPLERS, SCHEDULES, find_sampler, find_schedule

RANDOM_SEED = -1
MAX_SEED = 2**32 - 1
MAX_IMAGES = 100
SIDE_STEP, MIN_SIDE, MAX_SIDE = 8, 64, 2048  # pixels; a step is what one latent covers


def _known_sampler(name: str) -> str:
    sampler = find_sampler(name)
    if sampler is None:
        raise ValueError(
            f"there is no sampling method {name!r}; known are {', '.join(s.name for s in SAMPLERS)}"
        )
    return sampler.name


def _known_schedule(name: str) -> str:
    schedule = find_schedule(name)
    if schedule is None:
        raise ValueError(
            f"there is no schedule type {name!r}; known are {', '.join(s.name for s in SCHEDULES)}"
        )
    return schedule.name


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("the text contains a NUL character")
    return text


Text = Annotated[str, Field(max_length=20_000), AfterValidator(_storable)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIDE_STEP)]


class Txt2Img(BaseModel):
    """One request to paint images from text; names and ranges are the WebUI's txt2img tab's.

    `checkpoint`, `width` and `height` may be left open when asking; `control.submit` fills them in (default
    checkpoint, its native size), draws a seed for -1, and what is stored with a job is always complete.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["txt2img"] = "txt2img"
    prompt: Text = ""
    negative_prompt: Text = ""
    checkpoint: Name | None = None
    sampler: Annotated[str, AfterValidator(_known_sampler)] = "DPM++ 2M"
    schedule: Annotated[str, AfterValidator(_known_schedule)] = AUTOMATIC
    steps: Annotated[int, Field(ge=1, le=150)] = 20
    width: Side | None = None
    height: Side | None = None
    batch_count: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1
    batch_size: Annotated[int, Field(ge=1, le=8)] = 1
    cfg_scale: Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)] = 7.0
    seed: Annotated[int, Field(ge=RANDOM_SEED, le=MAX_SEED)] = RANDOM_SEED
    noise_source: Literal["NV", "CPU"] = "NV"
    vae: Name | None = None  # None: the checkpoint's own

    @field_validator("steps")
    @classmethod
    def _enough_for_the_sampler(cls, steps: int, known: ValidationInfo) -> int:
        sampler = find_sampler(known.data.get("sampler", ""))  # absent when it was refused itself
        if sampler and steps < sampler.fewest_steps:
            raise ValueError(f"{sampler.name} needs at least {sampler.fewest_steps} steps")
        return steps

    @property
    def image_count(self) -> int:
        """How many images the job brings."""
        return self.batch_count * self.batch_size

    def completed(self, *, checkpoint: str, native_size: int, seed: int) -> Self:
        """This generation with everything that was left open filled in."""
        return self.model_copy(
            update={
                "checkpoint": checkpoint,
                "width": self.width or native_size,
                "height": self.height or native_size,
                "seed": seed if self.seed == RANDOM_SEED else self.seed,
            }
        )
