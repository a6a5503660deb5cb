"""Infotexts of anyone, read by the WebUI's rules: defaults filled in, old words translated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from cloudbrush.domain.generation import OWN_VAE
from cloudbrush.domain.infotext import labels, syntax
from cloudbrush.domain.infotext.labels import NEGATIVE_PROMPT, PROMPT
from cloudbrush.domain.prompt import BREAK, parse_attention
from cloudbrush.domain.sampling import AUTOMATIC, find_sampler, from_recorded

_HASH_BEHIND = re.compile(r"\([^()]*\)\Z")
_BRACKETED_HASH = re.compile(r" \[[0-9a-f]{8,64}\]\Z")
_FILE_ENDING = re.compile(r"\.(?:safetensors|ckpt|pt)\Z")
_VERSION = re.compile(
    r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?(?:-(?:(rc[0-9]*)|([0-9]{1,9}))(?:-.*)?)?",
    re.IGNORECASE,
)
_HIRES = ("Hires upscale", "Hires upscaler", "Hires resize-1", "Hires resize-2")


def parse(text: str) -> dict[str, str]:
    """The fields of an infotext by the WebUI's labels, its defaults filled in; any text is an infotext.

    Sizes such as 512x768 become two fields, `Size-1` and `Size-2`.
    """
    *lines, last = text.strip().split("\n")
    pairs = syntax.pairs(last)
    if len(pairs) < syntax.LEAST_PAIRS:
        lines, pairs = [*lines, last], []
    fields: dict[str, str] = {}
    for key, quoted in pairs:
        value = syntax.unquote(quoted)
        if size := syntax.SIZE.match(value):
            fields[f"{key}-1"], fields[f"{key}-2"] = size[1], size[2]
        elif quoted:  # what has no value is not told
            fields[key] = value
    prompt, negative = syntax.prompts(lines)
    fields[PROMPT] = fields.pop(labels.EXACT_PROMPT, prompt)
    fields[NEGATIVE_PROMPT] = fields.pop(labels.EXACT_NEGATIVE_PROMPT, negative)
    _translate_old(fields)
    return {**_defaults(fields), **fields, **_compatibility(fields)}


def to_generation_fields(parsed: dict[str, str]) -> dict[str, Any]:
    """The values of Txt2Img's fields that a parsed infotext tells; what it does not tell is left out.

    Numbers out of range and words that are none are passed on for Txt2Img to refuse by name.
    """
    fields, hires = _shared(parsed), _hires(parsed)
    return {**fields, "hires": hires} if hires else fields


def to_img2img_fields(parsed: dict[str, str]) -> dict[str, Any]:
    """The values of Img2Img's fields that a parsed infotext tells; of image and mask it tells nothing.

    The denoising strength of hires fix is not told. Numbers out of range and words that are none are passed
    on for Img2Img to refuse by name.
    """
    fields, inpainting = _shared(parsed) | _told(labels.IMG2IMG, parsed), _inpainting(parsed)
    if _hires(parsed):
        del fields["denoising_strength"]
    return {**fields, "inpainting": inpainting} if inpainting else fields


def _inpainting(parsed: dict[str, str]) -> dict[str, Any]:
    """There was a mask if anything is told about one."""
    fields = _told(labels.INPAINTING, parsed)
    if parsed["Masked content"] != "original":
        fields["fill"] = parsed["Masked content"]
    if parsed["Mask mode"] == labels.NOT_MASKED:
        fields["inverted"] = True
    if parsed["Inpaint area"] == labels.ONLY_MASKED:
        fields |= {"only_masked": True, "padding": parsed["Masked area padding"]}
    return {"blur": "0", **fields} if fields else {}  # a blur of none is not told


def _shared(parsed: dict[str, str]) -> dict[str, Any]:
    """What every request to paint has in common."""
    sampler, schedule = from_recorded(parsed.get("Sampler"), parsed.get("Schedule type"))
    fields: dict[str, Any] = {"prompt": parsed[PROMPT], "negative_prompt": parsed[NEGATIVE_PROMPT]}
    if "Sampler" in parsed:
        fields |= {"sampler": sampler.name, "schedule": schedule, "vae": OWN_VAE}
    fields |= _told(labels.PLAIN, parsed)
    if fields.get("clip_skip") == "1":
        del fields["clip_skip"]
    if (vae := _text(parsed, "VAE") or OWN_VAE) not in (OWN_VAE, AUTOMATIC):
        fields["vae"] = _FILE_ENDING.sub("", vae)
    fields["noise_source"] = _noise_source(parsed)
    groups = {
        "variation": _told(labels.VARIATION, parsed),
        "refiner": _refiner(parsed),
        "options": _options(parsed),
    }
    return fields | {name: group for name, group in groups.items() if group}


def _told(known: Mapping[str, str], parsed: dict[str, str]) -> dict[str, Any]:
    """The fields whose labels are there."""
    texts = ((key, _text(parsed, label)) for key, label in known.items())
    return {key: text for key, text in texts if text is not None}


def _text(parsed: dict[str, str], label: str) -> str | None:
    """What is told under a label, also where it was taken for a size: a name may be 512x512."""
    if label not in parsed and f"{label}-1" in parsed:
        return f"{parsed[f'{label}-1']}x{parsed[f'{label}-2']}"
    return parsed.get(label)


def _noise_source(parsed: dict[str, str]) -> str:
    """What a GPU drew elsewhere is drawn by the source that imitates it; ours says what it means."""
    source = parsed.get("RNG", "GPU")
    ours = parsed.get("Version", "").startswith("cloudbrush")
    return source if source == "CPU" or (ours and source == "GPU") else "NV"


def _hires(parsed: dict[str, str]) -> dict[str, Any]:
    """Hires fix was on if there is a denoising strength, and anything about a second size."""
    if "Denoising strength" not in parsed or all((_text(parsed, label) or "0") == "0" for label in _HIRES):
        return {}
    fields = _told(labels.HIRES, parsed)
    checkpoint = _text(parsed, "Hires checkpoint")
    if checkpoint not in (None, labels.SAME_CHECKPOINT):
        fields["checkpoint"] = _BRACKETED_HASH.sub("", checkpoint or "")
    sampler, schedule = parsed["Hires sampler"], parsed["Hires schedule type"]
    if sampler != labels.SAME_SAMPLER and find_sampler(sampler) is None:  # an old name
        found, schedule = from_recorded(sampler, schedule)
        sampler = found.name
    if sampler != labels.SAME_SAMPLER:
        fields["sampler"] = sampler
    if schedule != labels.SAME_SCHEDULE:
        fields["schedule"] = schedule
    return fields


def _refiner(parsed: dict[str, str]) -> dict[str, str]:
    checkpoint = _text(parsed, "Refiner") or "None"
    if checkpoint == "None":
        return {}
    switch = {"switch_at": parsed["Refiner switch at"]} if "Refiner switch at" in parsed else {}
    return {"checkpoint": _BRACKETED_HASH.sub("", checkpoint), **switch}


def _options(parsed: dict[str, str]) -> dict[str, str]:
    """Options that are told, but for those that `parse` filled in as usual."""
    known = {**labels.OPTIONS, **labels.AFTER_REFINER, **labels.SEED_DELTA}
    told = {key: parsed[label] for key, label in known.items() if label in parsed}
    return {key: value for key, value in told.items() if value != _USUAL.get(known[key])}


def _translate_old(fields: dict[str, str]) -> None:
    """Rewrite what older WebUIs and extensions wrote as today's WebUI would."""
    if "First pass size-1" in fields:  # before hires fix had a scale, Size was the size after it
        width, height = (_pixels(fields.get(f"Size-{side}"), 512) for side in ("1", "2"))
        first = [_pixels(fields.get(f"First pass size-{side}"), 0) for side in ("1", "2")]
        if 0 in first:
            first = _old_first_pass(width, height)
        fields |= {"Hires resize-1": str(width), "Hires resize-2": str(height)}
        fields |= {"Size-1": str(first[0]), "Size-2": str(first[1])}
    if "Hypernet" in fields:
        fields[PROMPT] += f"<hypernet:{fields['Hypernet']}:{fields.get('Hypernet strength', '1.0')}>"
    loras = [
        f"<lora:{_HASH_BEHIND.sub('', name)}:{fields.get(f'AddNet Weight A {number}', '1.0')}>"
        for key, name in fields.items()
        if (number := key.removeprefix("AddNet Model ")) != key
        and fields.get(f"AddNet Module {number}") == "LoRA"
    ]
    if loras:
        fields[PROMPT] += "\n" + "".join(loras)


def _pixels(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch("[0-9]{1,9}", text) else default


def _old_first_pass(width: int, height: int) -> list[int]:
    """The size of a first pass that was left to the WebUI: as many pixels as 512x512, in steps of 64."""
    scale = math.sqrt(512 * 512 / max(1, width * height))
    return [math.ceil(scale * side / 64) * 64 for side in (width, height)]


# What a text that tells nothing of it means.
_USUAL = {
    "Emphasis": "Original",
    "Schedule max sigma": "0",
    "Schedule min sigma": "0",
    "Schedule rho": "0",
    "Refiner switch by sampling steps": "False",
}


def _defaults(fields: dict[str, str]) -> dict[str, str]:
    defaults = {
        "Clip skip": "1",
        "Hires resize-1": "0",
        "Hires resize-2": "0",
        "Hires sampler": "Use same sampler",
        "Hires schedule type": "Use same scheduler",
        "Hires checkpoint": "Use same checkpoint",
        "Hires prompt": "",
        "Hires negative prompt": "",
        "Mask mode": "Inpaint masked",
        "Masked content": "original",
        "Inpaint area": "Whole picture",
        "Masked area padding": "32",
        "RNG": "GPU",
        "Schedule type": "Automatic",
        "Schedule max sigma": "0",
        "Schedule min sigma": "0",
        "Schedule rho": "0",
        "VAE Encoder": "Full",
        "VAE Decoder": "Full",
        "FP8 weight": "Disable",
        "Refiner switch by sampling steps": "False",
    }
    segments = (segment for text in (PROMPT, NEGATIVE_PROMPT) for segment in parse_attention(fields[text]))
    if any(segment.weight != 1 and segment.text != BREAK for segment in segments):
        defaults["Emphasis"] = "Original"
    return defaults


def _compatibility(fields: dict[str, str]) -> dict[str, str]:
    """What an image painted by an old WebUI needs to come out the same."""
    version = _version(fields.get("Version", ""))
    if version is None:
        return {}
    switches = {}
    if version < (1, 6, 0, 0) and "[" in fields[PROMPT]:
        switches["Old prompt editing timelines"] = "True"
    if version < (1, 6, 0, 0) and fields.get("Sampler") in ("DDIM", "PLMS"):
        switches["Pad conds v0"] = "True"
    if version < (1, 7, 0, 225):
        switches["Downcast alphas_cumprod"] = "True"
    if version < (1, 8, 0, 0) and fields.get("Refiner"):
        switches["Refiner switch by sampling steps"] = "True"
    return switches


def _version(text: str) -> tuple[int, ...] | None:
    """A WebUI's version as numbers, None for what is none: v1.6.0-2-g4afaaf8a is two changes after 1.6.0."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    change = -1 if match[4] else int(match[5] or 0)  # a release candidate comes before its release
    return (*(int(part or 0) for part in match.group(1, 2, 3)), change)
