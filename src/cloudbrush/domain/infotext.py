"""The "parameters" text of an image: written for a generation, read from anyone's image (specification 5).

prompt, any number of lines
Negative prompt: any number of lines
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbrush import __version__
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.prompt import strip_comments
from cloudbrush.domain.sampling import find_sampler, from_recorded, schedule_label

PROMPT = "Prompt"
NEGATIVE_PROMPT = "Negative prompt"
# Ours: the texts as JSON, written only where the lines above lose white space or hide where a prompt ends.
EXACT_PROMPT = "Exact prompt"
EXACT_NEGATIVE_PROMPT = "Exact negative prompt"

# Written for the Beta schedule; both are settings of the WebUI that Cloudbrush leaves alone.
BETA_SHAPE = {"Beta schedule alpha": "0.6", "Beta schedule beta": "0.6"}

_LEAST_PAIRS = 3  # a last line with fewer pairs belongs to the prompt
_QUOTED = re.compile(r'\s*("(?:\\.|[^\\"])+")(?:,|$)')
_HASH_BEHIND = re.compile(r"\([^()]*\)\Z")
_FILE_ENDING = re.compile(r"\.(?:safetensors|ckpt|pt)\Z")
_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})\Z")
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Hashes:
    """Of the files, beside the checkpoint, that an image was painted with."""

    vae: str = ""  # sha256
    loras: Mapping[str, str] = field(default_factory=dict)  # name in the tag -> hash as it is shown
    embeddings: Mapping[str, str] = field(default_factory=dict)  # name -> hash as it is shown


def write(generation: Txt2Img, *, seed: int, model_hash: str, others: Hashes = Hashes()) -> str:
    """The infotext of one image of a complete generation; `model_hash` is the checkpoint's sha256."""
    sampler = find_sampler(generation.sampler)
    assert sampler is not None  # Txt2Img only takes known ones
    prompt, negative = _uncommented(generation.prompt), _uncommented(generation.negative_prompt)
    pairs = {
        "Steps": generation.steps,
        "Sampler": sampler.name,
        "Schedule type": schedule_label(sampler, generation.schedule),
        "CFG scale": _number(generation.cfg_scale),
        "Seed": seed,
        "Size": f"{generation.width}x{generation.height}",
        "Model hash": model_hash[:10],
        "Model": _quote_exactly(generation.checkpoint or ""),
        **_vae(generation.vae, others.vae),
        "RNG": generation.noise_source,
        **_listed("Lora hashes", others.loras),
        **_listed("TI hashes", others.embeddings),
        **(BETA_SHAPE if generation.schedule == "Beta" else {}),
        **_hidden_prompts(prompt, negative),
        "Version": f"cloudbrush-{__version__}",
    }
    line = ", ".join(f"{key}: {value}" for key, value in pairs.items())
    return _lines(prompt, negative, line)


def parse(text: str) -> dict[str, str]:
    """The fields of an infotext by the WebUI's labels, its defaults filled in; any text is an infotext.

    Sizes such as 512x768 become two fields, `Size-1` and `Size-2`.
    """
    *lines, last = text.strip().split("\n")
    pairs = _pairs(last)
    if len(pairs) < _LEAST_PAIRS:
        lines, pairs = [*lines, last], []
    fields: dict[str, str] = {}
    for key, value in pairs:
        size = _SIZE.match(value)
        if size:
            fields[f"{key}-1"], fields[f"{key}-2"] = size[1], size[2]
        else:
            fields[key] = unquote(value)
    prompt, negative = _prompts(lines)
    fields[PROMPT] = fields.pop(EXACT_PROMPT, prompt)
    fields[NEGATIVE_PROMPT] = fields.pop(EXACT_NEGATIVE_PROMPT, negative)
    _translate_old(fields)
    return {**_defaults(fields), **fields, **_compatibility(fields)}


def to_generation_fields(parsed: dict[str, str]) -> dict[str, Any]:
    """The values of Txt2Img's fields that a parsed infotext tells; what it does not tell is left out.

    Numbers out of range and words that are none are passed on for Txt2Img to refuse by name.
    """
    sampler, schedule = from_recorded(parsed.get("Sampler"), parsed.get("Schedule type"))
    fields: dict[str, Any] = {"prompt": parsed[PROMPT], "negative_prompt": parsed[NEGATIVE_PROMPT]}
    if "Sampler" in parsed:
        fields |= {"sampler": sampler.name, "schedule": schedule}
    for key, label in _PLAIN_FIELDS.items():
        if label in parsed:
            fields[key] = parsed[label]
    if parsed.get("VAE", "None") not in ("None", "Automatic"):
        fields["vae"] = _FILE_ENDING.sub("", parsed["VAE"])
    if parsed.get("RNG") in ("CPU", "NV", "GPU"):
        fields["noise_source"] = "CPU" if parsed["RNG"] == "CPU" else "NV"  # NV imitates a GPU's
    return fields


_PLAIN_FIELDS = {
    "checkpoint": "Model",
    "steps": "Steps",
    "width": "Size-1",
    "height": "Size-2",
    "cfg_scale": "CFG scale",
    "seed": "Seed",
}


def quote(value: Any) -> str:
    """A value as it stands in the parameter line: as JSON when it holds a comma, colon or line break."""
    text = str(value)
    if any(character in text for character in ",:\n"):
        return json.dumps(value, ensure_ascii=False)
    return text


def unquote(text: str) -> str:
    """The value that `quote` wrote; text that is no JSON string is itself."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _quote_exactly(text: str) -> str:
    """Like `quote`, and also where the reader would take the text for something else."""
    looks_different = text != text.strip() or text.startswith('"') or _SIZE.match(text)
    return json.dumps(text, ensure_ascii=False) if looks_different else quote(text)


def _lines(prompt: str, negative_prompt: str, parameters: str) -> str:
    negative = f"{NEGATIVE_PROMPT}: {negative_prompt}" if negative_prompt else ""
    return "\n".join(part for part in (prompt, negative, parameters) if part)


def _uncommented(text: str) -> str:
    """A prompt as it is painted; comments are the painter's own."""
    return strip_comments(text).strip() if "#" in text else text


def _hidden_prompts(prompt: str, negative: str) -> dict[str, str]:
    """The prompts that would come back different, in a form that does not."""
    read_prompt, read_negative = _prompts(_lines(prompt, negative, "").strip().split("\n"))
    hidden = {}
    if read_prompt != prompt:
        hidden[EXACT_PROMPT] = _quote_exactly(prompt)
    if read_negative != negative:
        hidden[EXACT_NEGATIVE_PROMPT] = _quote_exactly(negative)
    return hidden


def _prompts(lines: list[str]) -> tuple[str, str]:
    texts: dict[str, list[str]] = {PROMPT: [], NEGATIVE_PROMPT: []}
    current = PROMPT
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE_PROMPT + ":"):
            current = NEGATIVE_PROMPT
            line = line.removeprefix(NEGATIVE_PROMPT + ":").strip()
        if line or texts[current]:
            texts[current].append(line)
    return "\n".join(texts[PROMPT]), "\n".join(texts[NEGATIVE_PROMPT])


def _pairs(line: str) -> list[tuple[str, str]]:
    """The `key: value` pairs of a parameter line; linear in its length, whatever it holds."""
    pairs: list[tuple[str, str]] = []
    start = 0
    while (colon := line.find(":", start)) >= 0:
        key = _key_before(line, start, colon)
        if len(key) < 2:  # the WebUI, too, takes no one-letter keys
            start = colon + 1
            continue
        quoted = _QUOTED.match(line, colon + 1)
        if quoted:
            value, start = quoted[1], quoted.end()
        else:
            comma = line.find(",", colon)
            end = comma if comma >= 0 else len(line)
            value, start = line[colon + 1 : end].lstrip(), end + 1
        pairs.append((key, value))
    return pairs


def _key_before(line: str, start: int, colon: int) -> str:
    """The longest text before `colon` that is made of key characters and begins with a letter or digit."""
    first = colon
    while first > start and (line[first - 1].isalnum() or line[first - 1] in "_ -/"):
        first -= 1
    return line[first:colon].lstrip(" -/")


def _vae(name: str | None, sha256: str) -> dict[str, str]:
    """A named VAE, as the name of its file; the checkpoint's own is not mentioned."""
    known = {"VAE hash": sha256[:10]} if sha256 else {}
    return {} if name is None else {**known, "VAE": _quote_exactly(f"{name}.safetensors")}


def _listed(label: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Hashes by name in one value; commas and colons of names would be taken for its own."""
    listed = ", ".join(f"{re.sub('[:,]', '', name)}: {hashed}" for name, hashed in hashes.items())
    return {label: quote(listed)} if listed else {}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


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
