"""Infotexts of anyone, read by the WebUI's rules: defaults filled in, old words translated."""

from __future__ import annotations

import math
import re
from typing import Any

from cloudbrush.domain.generation import OWN_VAE
from cloudbrush.domain.infotext import labels, syntax
from cloudbrush.domain.infotext.labels import NEGATIVE_PROMPT, PROMPT
from cloudbrush.domain.sampling import AUTOMATIC, from_recorded

_HASH_BEHIND = re.compile(r"\([^()]*\)\Z")
_BRACKETED_HASH = re.compile(r" \[[0-9a-f]{8,64}\]\Z")
_FILE_ENDING = re.compile(r"\.(?:safetensors|ckpt|pt)\Z")
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-(\d+))?")
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
    for key, value in pairs:
        size = syntax.SIZE.match(value)
        if size:
            fields[f"{key}-1"], fields[f"{key}-2"] = size[1], size[2]
        else:
            fields[key] = syntax.unquote(value)
    prompt, negative = syntax.prompts(lines)
    fields[PROMPT] = fields.pop(labels.EXACT_PROMPT, prompt)
    fields[NEGATIVE_PROMPT] = fields.pop(labels.EXACT_NEGATIVE_PROMPT, negative)
    _translate_old(fields)
    return {**_defaults(fields), **fields, **_compatibility(fields)}


def to_generation_fields(parsed: dict[str, str]) -> dict[str, Any]:
    """The values of Txt2Img's fields that a parsed infotext tells; what it does not tell is left out.

    Numbers out of range and words that are none are passed on for Txt2Img to refuse by name.
    """
    sampler, schedule = from_recorded(parsed.get("Sampler"), parsed.get("Schedule type"))
    fields: dict[str, Any] = {"prompt": parsed[PROMPT], "negative_prompt": parsed[NEGATIVE_PROMPT]}
    if "Sampler" in parsed:
        fields |= {"sampler": sampler.name, "schedule": schedule, "vae": OWN_VAE}
    for key, label in labels.PLAIN.items():
        if label in parsed and (label != "Clip skip" or parsed[label] != "1"):
            fields[key] = parsed[label]
    if parsed.get("VAE", OWN_VAE) not in (OWN_VAE, AUTOMATIC):
        fields["vae"] = _FILE_ENDING.sub("", parsed["VAE"])
    fields["noise_source"] = _noise_source(parsed)
    groups = {
        "variation": _variation(parsed),
        "hires": _hires(parsed),
        "refiner": _refiner(parsed),
        "options": _options(parsed),
    }
    return fields | {name: group for name, group in groups.items() if group}


def to_img2img_fields(parsed: dict[str, str]) -> dict[str, Any]:
    """The values of Img2Img's own fields that a parsed infotext tells; of pictures it cannot tell.

    With hires fix, the denoising strength is that of its second pass and not told.
    """
    fields: dict[str, Any] = {}
    if "Denoising strength" in parsed and not _hires(parsed):
        fields["denoising_strength"] = parsed["Denoising strength"]
    if "Noise multiplier" in parsed:
        fields["noise_multiplier"] = parsed["Noise multiplier"]
    told = {
        "blur": "Mask blur",
        "fill": "Masked content",
        "padding": "Masked area padding",
        "mask_weight": "Conditional mask weight",
    }
    inpainting: dict[str, Any] = {key: parsed[label] for key, label in told.items() if label in parsed}
    if "Mask mode" in parsed:
        inpainting["inverted"] = parsed["Mask mode"] == "Inpaint not masked"
    if "Inpaint area" in parsed:
        inpainting["only_masked"] = parsed["Inpaint area"] == "Only masked"
    return fields | ({"inpainting": inpainting} if inpainting else {})


def _noise_source(parsed: dict[str, str]) -> str:
    """What a GPU drew elsewhere is drawn by the source that imitates it; ours says what it means."""
    source = parsed.get("RNG", "GPU")
    ours = parsed.get("Version", "").startswith("cloudbrush")
    return source if source == "CPU" or (ours and source == "GPU") else "NV"


def _variation(parsed: dict[str, str]) -> dict[str, str]:
    told = {
        "seed": "Variation seed",
        "strength": "Variation seed strength",
        "from_width": "Seed resize from-1",
        "from_height": "Seed resize from-2",
    }
    return {key: parsed[label] for key, label in told.items() if label in parsed}


def _hires(parsed: dict[str, str]) -> dict[str, Any]:
    """Hires fix was on if there is a denoising strength, and anything about a second size."""
    if "Denoising strength" not in parsed or all(parsed.get(label, "0") == "0" for label in _HIRES):
        return {}
    told = {
        "denoising_strength": "Denoising strength",
        "upscaler": "Hires upscaler",
        "scale": "Hires upscale",
        "resize_width": "Hires resize-1",
        "resize_height": "Hires resize-2",
        "steps": "Hires steps",
        "prompt": "Hires prompt",
        "negative_prompt": "Hires negative prompt",
    }
    fields: dict[str, Any] = {key: parsed[label] for key, label in told.items() if label in parsed}
    if parsed["Hires checkpoint"] != labels.SAME_CHECKPOINT:
        fields["checkpoint"] = _BRACKETED_HASH.sub("", parsed["Hires checkpoint"])
    if parsed["Hires sampler"] != labels.SAME_SAMPLER:
        fields["sampler"] = parsed["Hires sampler"]
    if parsed["Hires schedule type"] != labels.SAME_SCHEDULE:
        fields["schedule"] = parsed["Hires schedule type"]
    return fields


def _refiner(parsed: dict[str, str]) -> dict[str, str]:
    if parsed.get("Refiner", "None") in ("None", ""):
        return {}
    switch = {"switch_at": parsed["Refiner switch at"]} if "Refiner switch at" in parsed else {}
    return {"checkpoint": _BRACKETED_HASH.sub("", parsed["Refiner"]), **switch}


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
    if any(bracket in fields[PROMPT] + fields[NEGATIVE_PROMPT] for bracket in "(["):
        defaults["Emphasis"] = "Original"
    return defaults


def _compatibility(fields: dict[str, str]) -> dict[str, str]:
    """What an image painted by an old WebUI needs to come out the same."""
    match = _VERSION.match(fields.get("Version", ""))
    if match is None:
        return {}
    version = tuple(int(part or 0) for part in match.groups())
    switches = {}
    if version < (1, 6, 0, 0) and "[" in fields[PROMPT] + fields[NEGATIVE_PROMPT]:
        switches["Old prompt editing timelines"] = "True"
    if version < (1, 6, 0, 0) and fields.get("Sampler") in ("DDIM", "PLMS"):
        switches["Pad conds v0"] = "True"
    if version < (1, 7, 0, 225):
        switches["Downcast alphas_cumprod"] = "True"
    if version < (1, 8, 0, 0) and "Refiner" in fields:
        switches["Refiner switch by sampling steps"] = "True"
    return switches
