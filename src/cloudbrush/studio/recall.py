"""From an infotext back to the form: what it tells, as values of controls and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from cloudbrush.domain import infotext
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.generation import Generation
from cloudbrush.domain.sampling import AUTOMATIC
from cloudbrush.studio import catalogue, values
from cloudbrush.studio.values import IMG2IMG, OVERRIDES, Values

_NO_PICTURE = "0" * 64


@dataclass(frozen=True)
class Recalled:
    """What an infotext tells a form."""

    values: dict[str, Any] = field(default_factory=dict)  # by path; what is not told is left out
    missing: tuple[str, ...] = ()  # in words: what it names and is not here or cannot be taken


def recall(task: str, text: str, settings: Values, assets: Sequence[ModelAsset]) -> Recalled:
    """The values an infotext tells for a form of `task`; settings that differ become overrides."""
    parsed = infotext.parse(text)
    read = infotext.to_img2img_fields if task == IMG2IMG else infotext.to_generation_fields
    fields, told, refused = _accepted(task, read(parsed))
    found = {path: values.at(told, path) for path in values.FIELDS[task] if _tells(fields, path)}
    if "Sampler" in parsed:  # a whole infotext also tells what was not used
        used = {group: values.at(told, group) is not None for group in values.SWITCHES}
        found |= {group: on for group, on in used.items() if group in values.FIELDS[task]}
        found |= {"clip_skip": told.clip_skip, OVERRIDES: _overrides(told, settings)}
    if found.get("vae", "") is None and not _has_own_vae_file(told.checkpoint, assets):
        found["vae"] = AUTOMATIC  # which then comes to the same
    gone = [path for path in catalogue.KINDS if path in found and not _there(path, found[path], assets)]
    missing = [f"{values.LABELS[path]} {found.pop(path)!r} is not here" for path in gone]
    return Recalled({path: _shown(path, value) for path, value in found.items()}, (*missing, *refused))


def _accepted(task: str, told: dict[str, Any]) -> tuple[dict[str, Any], Generation, list[str]]:
    """The fields that can be taken, the generation they make, and in words those that cannot."""
    model = values.MODELS[task]
    fields = {name: value for name, value in told.items() if name in model.model_fields}
    refused: list[str] = []
    while True:
        try:
            return fields, model(**_with_pictures(task, fields)), refused
        except ValidationError as error:
            wrong = error.errors()[0]
            path = ".".join(str(part) for part in wrong["loc"][:2])
            refused.append(f"{values.LABELS.get(path, path)}: {wrong['msg'].removeprefix('Value error, ')}")
            group, _, name = path.partition(".")
            if name and name in fields[group]:
                fields[group] = {key: value for key, value in fields[group].items() if key != name}
            else:
                del fields[group]


def _with_pictures(task: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with pictures that stand for those an infotext cannot tell."""
    if task != IMG2IMG:
        return fields
    mask = {"inpainting": {"mask": _NO_PICTURE, **fields["inpainting"]}} if "inpainting" in fields else {}
    return {**fields, "image": _NO_PICTURE, **mask}


def _tells(fields: dict[str, Any], path: str) -> bool:
    """Whether the fields say something of a control; switches are asked elsewhere.

    Of a group that is told at all, what is left out is as usual.
    """
    unsaid = (*values.SWITCHES, "inpainting.mask")
    return path.partition(".")[0] in fields and path not in unsaid


def _overrides(told: Generation, settings: Values) -> list[str]:
    """The settings that are told and are not as they are set."""
    return [
        values.override(path, values.at(told, path))
        for path in values.SETTING_PATHS
        if values.at(told, path) not in (None, settings[path])
    ]


def _has_own_vae_file(checkpoint: str | None, assets: Sequence[ModelAsset]) -> bool:
    """Whether Automatic would find a VAE file for a checkpoint."""
    names = [asset.name for asset in assets if asset.kind is AssetKind.VAE]
    return any(checkpoint and name.startswith(checkpoint) for name in names)


def _there(path: str, name: Any, assets: Sequence[ModelAsset]) -> bool:
    return (name or _shown(path, name)) in [known for _, known in catalogue.choices(path, assets)]


def _shown(path: str, value: Any) -> Any:
    """A value as its control shows it."""
    if value is None:
        return "None" if path == "vae" else ""
    return value
