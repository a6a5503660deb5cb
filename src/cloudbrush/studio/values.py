"""The values of the form, one per control, and the generations they ask for.

A value is named by the path of the field it fills, such as `hires.steps`. Some are switches, named as the
group they let count: without its switch a group is left out. `mode` decides for inpainting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import Generation, Img2Img, Txt2Img
from cloudbrush.studio.settings_table import BY_LABEL, SETTINGS

Values = Mapping[str, Any]  # by path

TXT2IMG, IMG2IMG = "txt2img", "img2img"
MODELS: dict[str, type[Generation]] = {TXT2IMG: Txt2Img, IMG2IMG: Img2Img}

MODE = "mode"
WAYS = OVER, INPAINT, UPLOAD = "img2img", "inpaint", "upload"  # to say what to paint over
OVERRIDES = "overrides"
SWITCHES = ("hires", "refiner", "variation", "inpainting")

# Paths with the labels of their controls, in the order of the page.
QUICK = {
    "checkpoint": "Stable Diffusion checkpoint",
    "vae": "SD VAE",
    "clip_skip": "Clip skip",
}
SHARED = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "sampler": "Sampling method",
    "schedule": "Schedule type",
    "steps": "Sampling steps",
    "refiner": "Refiner",
    "refiner.checkpoint": "Refiner's checkpoint",
    "refiner.switch_at": "Switch at",
    "width": "Width",
    "height": "Height",
    "batch_count": "Batch count",
    "batch_size": "Batch size",
    "cfg_scale": "CFG Scale",
    "seed": "Seed",
    "variation": "Extra",
    "variation.seed": "Variation seed",
    "variation.strength": "Variation strength",
    "variation.from_width": "Resize seed from width",
    "variation.from_height": "Resize seed from height",
    OVERRIDES: "Override settings",
}
HIRES = {
    "hires": "Hires. fix",
    "hires.upscaler": "Upscaler",
    "hires.steps": "Hires steps",
    "hires.denoising_strength": "Denoising strength",
    "hires.scale": "Upscale by",
    "hires.resize_width": "Resize width to",
    "hires.resize_height": "Resize height to",
    "hires.checkpoint": "Hires checkpoint",
    "hires.sampler": "Hires sampling method",
    "hires.schedule": "Hires schedule type",
    "hires.prompt": "Hires prompt",
    "hires.negative_prompt": "Hires negative prompt",
}
PICTURE = {
    MODE: "What to paint over",
    "image": "Image",
    "resize_mode": "Resize mode",
    "denoising_strength": "Denoising strength",
    "inpainting.mask": "Mask",
    "inpainting.blur": "Mask blur",
    "inpainting.inverted": "Mask mode",
    "inpainting.fill": "Masked content",
    "inpainting.only_masked": "Inpaint area",
    "inpainting.padding": "Only masked padding, pixels",
}
OWN = {TXT2IMG: (*SHARED, *HIRES), IMG2IMG: (*SHARED, *PICTURE)}  # what each tab has of its own
FIELDS = {task: (*QUICK, *own) for task, own in OWN.items()}
SETTING_PATHS = tuple(setting.path for setting in SETTINGS)
LABELS = {**QUICK, **SHARED, **HIRES, **PICTURE, **{setting.path: setting.label for setting in SETTINGS}}

_NO_PICTURES = {"image": "0" * 64, "inpainting.mask": "0" * 64}  # to look at everything but the pictures


def generation(task: str, values: Values) -> Generation:
    """What the form and the settings ask for. Raises `InvalidInput` naming the field as its label does."""
    try:
        return _built(task, values)
    except ValidationError as error:
        first = error.errors()[0]
        path = _path(first["loc"])
        if path in dict(_overrides(values)):
            path = OVERRIDES
        words = "nothing is chosen" if first["type"] == "missing" else first["msg"]
        words = words.removeprefix("Value error, ")
        raise InvalidInput(f"{LABELS.get(path, path)}: {words}", field=path) from error


def refused(task: str, values: Values) -> set[str]:
    """The paths whose values a generation would refuse; pictures that are missing do not count."""
    try:
        _built(task, {**values, **_NO_PICTURES})
    except ValidationError as error:
        return {_path(wrong["loc"]) for wrong in error.errors()}
    except InvalidInput:
        return {OVERRIDES}
    return set()


def _built(task: str, values: Values) -> Generation:
    told = {path: _number(value) for path, value in values.items() if value not in (None, "")}
    told |= dict(_overrides(told))
    if task == IMG2IMG:
        told["inpainting"] = told.get(MODE, OVER) != OVER
    fields: dict[str, Any] = {}
    for path, value in told.items():
        group, _, name = path.partition(".")
        if group not in MODELS[task].model_fields or (group in SWITCHES and not told.get(group)):
            continue  # of the other tab, or switched off
        if path in SWITCHES:
            fields.setdefault(path, {})
        elif name:
            fields.setdefault(group, {})[name] = value
        else:
            fields[path] = value
    return MODELS[task](**fields)


def _overrides(values: Values) -> Iterable[tuple[str, str]]:
    """Paths and values of the settings written as "Label: value". Raises `InvalidInput`."""
    for written in values.get(OVERRIDES) or ():
        label, colon, value = str(written).partition(":")
        setting = BY_LABEL.get(label.strip())
        if not colon or setting is None:
            known = ", ".join(BY_LABEL)
            raise InvalidInput(
                f"{LABELS[OVERRIDES]}: there is no setting {label.strip()!r}",
                field=OVERRIDES,
                hint=f"Write Label: value. Known are {known}.",
            )
        yield setting.path, value.strip()


def override(path: str, value: Any) -> str:
    """A setting as Override settings shows it."""
    label = next(label for label, setting in BY_LABEL.items() if setting.path == path)
    return f"{label}: {value:g}" if isinstance(value, float) else f"{label}: {value}"


def at(generation: BaseModel, path: str) -> Any:
    """What a generation says at a path, as a control shows it; a group that is left out says None."""
    value: Any = generation
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _path(loc: tuple[int | str, ...]) -> str:
    """The path of an error's place."""
    return ".".join(str(part) for part in loc[:2])


def _number(value: Any) -> Any:
    """Browsers send 20.0 for 20."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value
