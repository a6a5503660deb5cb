"""What to paint: an immutable description, refused at the door when a value is unknown or out of range.

Names, ranges and defaults are those of the WebUI's txt2img and img2img tabs (specification 1.1).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from cloudbrush.domain.asset import plain_name
from cloudbrush.domain.sampling import AUTOMATIC, SAMPLERS, SCHEDULES, find_sampler, find_schedule

RANDOM_SEED = -1
RANDOM_SEEDS = 4_294_967_294  # a seed that is drawn is one of so many, as in the WebUI
MAX_SEED = 2**53 - 1  # that every reader of JSON keeps
MAX_IMAGES = 100
SIDE_STEP, MIN_SIDE, MAX_SIDE = 8, 64, 2048  # pixels; a step is what one latent covers
OWN_VAE = "None"  # as people write it: the checkpoint's own


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
ModelName = Annotated[Name, AfterValidator(plain_name)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIDE_STEP)]
SideOrNone = Annotated[int, Field(ge=0, le=MAX_SIDE, multiple_of=SIDE_STEP)]  # 0: not wanted
Seed = Annotated[int, Field(ge=RANDOM_SEED, le=MAX_SEED)]
Share = Annotated[float, Field(ge=0, le=1)]
SamplerName = Annotated[str, AfterValidator(_known_sampler)]
ScheduleName = Annotated[str, AfterValidator(_known_schedule)]
Sigma = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
# The SHA-256 of a picture that was handed in before.
PictureId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variation(_Frozen):
    """How the first noise is made to resemble another: of another seed, or of another size."""

    seed: Seed = RANDOM_SEED
    strength: Share = 0.0  # 0: this seed's alone, 1: the other's alone
    from_width: SideOrNone = 0  # pixels; both set: the noise of that size, pasted into the middle
    from_height: SideOrNone = 0

    @property
    def resizes(self) -> bool:
        """Whether the noise is that of another size."""
        return bool(self.from_width and self.from_height)

    def completed(self, seed: int) -> Self | None:
        """What counts of it, with a seed drawn where one is needed; None when nothing does."""
        if not self.strength:
            return self.model_copy(update={"seed": 0}) if self.resizes else None
        return self.model_copy(update={"seed": seed if self.seed == RANDOM_SEED else self.seed})


class Options(_Frozen):
    """What the WebUI keeps in its Settings and what changes pixels; the defaults are the WebUI's."""

    emphasis: Literal["Original", "No norm", "Ignore", "None"] = "Original"
    old_prompt_editing: bool = False  # switch points below 1 are shares, others steps (before 1.6)
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0  # of ancestral and stochastic samplers
    eta_ddim: Annotated[float, Field(ge=0, le=1)] = 0.0
    eta_noise_seed_delta: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0  # ENSD
    sigma_churn: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    sigma_tmin: Sigma = 0.0
    sigma_tmax: Sigma = 0.0  # 0: no limit
    sigma_noise: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    sigma_min: Sigma = 0.0  # of the schedule; 0: the model's
    sigma_max: Sigma = 0.0
    rho: Annotated[float, Field(ge=0, le=20, allow_inf_nan=False)] = 0.0  # 0: the schedule's own
    beta_alpha: Annotated[float, Field(gt=0, le=2)] = 0.6
    beta_beta: Annotated[float, Field(gt=0, le=2)] = 0.6
    discard_penultimate: bool = False
    sgm_noise_multiplier: bool = False  # the first noise as Stability's own sampler scales it
    quantize: bool = False  # whole timesteps for the denoiser ("quantization in K samplers")
    noise_schedule: Literal["Default", "Zero Terminal SNR"] = "Default"
    downcast_alphas: bool = False  # the noise schedule in half precision, as before WebUI 1.7
    negative_minimum_sigma: Annotated[float, Field(ge=0, le=15)] = 0.0  # NGMS
    negative_minimum_all_steps: bool = False
    skip_early_guidance: Share = 0.0  # share of evaluations at the beginning without the negative prompt
    pad_prompts: bool = False  # shorter of prompt and negative prompt is filled with empty chunks
    pad_prompts_v0: bool = False  # negative prompt is stretched or cut to the prompt, as DDIM did before 1.6
    extra_noise: Share = 0.0  # added to what hires fix and img2img begin with
    refiner_by_steps: bool = False  # Switch at counts steps, not noise levels (before 1.8)
    hires_refiner: Literal["first pass", "second pass", "both passes"] = "second pass"


class HiresFix(_Frozen):
    """A second pass at a larger size, beginning with the first pass's image."""

    upscaler: ModelName = "Latent"
    steps: Annotated[int, Field(ge=0, le=150)] = 0  # 0: as many as in the first pass
    denoising_strength: Share = 0.7
    scale: Annotated[float, Field(ge=1, le=4, allow_inf_nan=False)] = 2.0  # unless a size is given
    resize_width: SideOrNone = 0  # one alone keeps the aspect; both: cover, then cut the middle out
    resize_height: SideOrNone = 0
    checkpoint: ModelName | None = None  # None: the same
    sampler: SamplerName | None = None
    schedule: ScheduleName | None = None
    prompt: Text = ""  # empty: the same
    negative_prompt: Text = ""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels that an image of a first pass ends with."""
        to_width, to_height = self.resize_width, self.resize_height
        if not to_width and not to_height:
            return int(width * self.scale), int(height * self.scale)
        return to_width or to_height * width // height, to_height or to_width * height // width


class Refiner(_Frozen):
    """Another checkpoint that takes over on the way."""

    checkpoint: ModelName
    switch_at: Annotated[float, Field(ge=0.01, le=1)] = 0.8  # share of the way


class Generation(_Frozen):
    """What every request to paint has in common.

    `checkpoint`, `width`, `height` and `vae` may be left open when asking; `control.submit` fills them in
    (default checkpoint, its native size, the VAE that Automatic finds), draws seeds for -1, and what is
    stored with a job is always complete.
    """

    prompt: Text = ""
    negative_prompt: Text = ""
    checkpoint: ModelName | None = None
    sampler: SamplerName = "DPM++ 2M"
    schedule: ScheduleName = AUTOMATIC
    steps: Annotated[int, Field(ge=1, le=150)] = 20
    width: Side | None = None
    height: Side | None = None
    batch_count: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1
    batch_size: Annotated[int, Field(ge=1, le=8)] = 1
    cfg_scale: Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)] = 7.0
    seed: Seed = RANDOM_SEED
    noise_source: Literal["NV", "CPU", "GPU"] = "NV"
    variation: Variation | None = None
    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    vae: ModelName | None = AUTOMATIC  # complete: a name, or None for the checkpoint's own
    refiner: Refiner | None = None
    options: Options = Options()

    @field_validator("steps")
    @classmethod
    def _enough_for_the_sampler(cls, steps: int, known: ValidationInfo) -> int:
        sampler = find_sampler(known.data.get("sampler", ""))  # absent when it was refused itself
        if sampler and steps < sampler.fewest_steps:
            raise ValueError(f"{sampler.name} needs at least {sampler.fewest_steps} steps")
        return steps

    @field_validator("vae")
    @classmethod
    def _none_is_none(cls, vae: str | None) -> str | None:
        return None if vae == OWN_VAE else vae

    @property
    def image_count(self) -> int:
        """How many images the job brings."""
        return self.batch_count * self.batch_size

    def seeds(self, index: int) -> tuple[int, int]:
        """Seed and variation seed of an image by its number; with a variation only its seed counts on."""
        if self.variation is None:
            return self.seed + index, 0
        if self.variation.strength:
            return self.seed, self.variation.seed + index
        return self.seed + index, self.variation.seed + index

    def completed(
        self, *, checkpoint: str, size: tuple[int, int], seed: int, variation_seed: int, vae: str | None
    ) -> Self:
        """This generation with everything that was left open filled in."""
        changes = {
            "checkpoint": checkpoint,
            "width": self.width or size[0],
            "height": self.height or size[1],
            "seed": seed if self.seed == RANDOM_SEED else self.seed,
            "variation": self.variation and self.variation.completed(variation_seed),
            "vae": vae,
        }
        return self.model_copy(update=changes)


class Txt2Img(Generation):
    """A request to paint images from text."""

    task: Literal["txt2img"] = "txt2img"
    hires: HiresFix | None = None


class Inpainting(_Frozen):
    """Painting only where a mask is white."""

    mask: PictureId
    inverted: bool = False  # paint where it is black
    blur: Annotated[int, Field(ge=0, le=64)] = 4  # pixels
    fill: Literal["fill", "original", "latent noise", "latent nothing"] = "original"
    only_masked: bool = False  # paint the masked region at full size, then put it back
    padding: Annotated[int, Field(ge=0, le=256)] = 32  # pixels round that region
    mask_weight: Share = 1.0  # of an inpainting checkpoint's mask


class Img2Img(Generation):
    """A request to paint images over an image."""

    task: Literal["img2img"] = "img2img"
    image: PictureId
    resize_mode: Literal[
        "Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"
    ] = "Just resize"
    denoising_strength: Share = 0.75
    inpainting: Inpainting | None = None
    fix_steps: bool = False  # as many steps as asked for, whatever the denoising strength
    noise_multiplier: Annotated[float, Field(ge=0, le=1.5)] = 1.0

    @property
    def pictures(self) -> tuple[str, ...]:
        """The ids of all pictures it begins with."""
        return (self.image, self.inpainting.mask) if self.inpainting else (self.image,)


def paintable(side: float) -> int:
    """The nearest side an image may have, in pixels."""
    return min(max(round(side / SIDE_STEP) * SIDE_STEP, MIN_SIDE), MAX_SIDE)


def _task(given: object) -> str | None:
    """Which task something describes; text to image where it does not say."""
    task = given.get("task", "txt2img") if isinstance(given, dict) else getattr(given, "task", None)
    return task if isinstance(task, str) else None


AnyGeneration = Annotated[
    Annotated[Txt2Img, Tag("txt2img")] | Annotated[Img2Img, Tag("img2img")], Discriminator(_task)
]
