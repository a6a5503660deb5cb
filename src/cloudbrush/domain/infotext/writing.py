"""Infotexts of what Cloudbrush painted, in the WebUI's order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbrush import __version__
from cloudbrush.domain.generation import Generation, HiresFix, Img2Img, Inpainting, Options, Refiner, Txt2Img
from cloudbrush.domain.infotext import labels, syntax
from cloudbrush.domain.infotext.syntax import quote, quote_exactly
from cloudbrush.domain.prompt import strip_comments
from cloudbrush.domain.sampling import find_sampler, schedule_label

_DEFAULTS = Options()


@dataclass(frozen=True)
class Hashes:
    """Of the files, beside the checkpoint, that an image was painted with."""

    vae: str = ""  # sha256
    loras: Mapping[str, str] = field(default_factory=dict)  # name in the tag -> hash as it is shown
    embeddings: Mapping[str, str] = field(default_factory=dict)  # name -> hash as it is shown
    checkpoints: Mapping[str, str] = field(default_factory=dict)  # hires fix's, refiner's: name -> sha256


def write(
    generation: Generation,
    *,
    seed: int,
    variation_seed: int | None = None,
    model_hash: str,
    others: Hashes = Hashes(),
) -> str:
    """The infotext of an image of a complete generation; `model_hash` is its checkpoint's sha256 or empty."""
    sampler = find_sampler(generation.sampler)
    assert sampler is not None  # a generation only takes known ones
    prompt, negative = _uncommented(generation.prompt), _uncommented(generation.negative_prompt)
    options = generation.options
    pairs = {
        "Steps": generation.steps,
        "Sampler": sampler.name,
        "Schedule type": schedule_label(sampler, generation.schedule),
        "CFG scale": _number(generation.cfg_scale),
        "Seed": seed,
        "Size": f"{generation.width}x{generation.height}",
        **({"Model hash": model_hash[:10]} if model_hash else {}),
        "Model": quote_exactly(generation.checkpoint or ""),
        **_vae(generation.vae, others.vae),
        **_variation(generation, variation_seed),
        **_denoising(generation),
        **({"Clip skip": generation.clip_skip} if generation.clip_skip > 1 else {}),
        **_options(options, labels.SEED_DELTA),
        "RNG": generation.noise_source,
        **_hires(generation, others.checkpoints),
        **_masked(generation),
        **_listed("Lora hashes", others.loras),
        **_listed("TI hashes", others.embeddings),
        **_options(options, labels.OPTIONS, _always(generation)),
        **_refiner(generation.refiner, others.checkpoints),
        **_options(options, labels.AFTER_REFINER),
        **_hidden_prompts(prompt, negative),
        "Version": f"cloudbrush-{__version__}",
    }
    line = ", ".join(f"{key}: {value}" for key, value in pairs.items())
    return syntax.joined(prompt, negative, line)


def _uncommented(text: str) -> str:
    """A prompt as it is painted; comments are the painter's own."""
    return strip_comments(text).strip() if "#" in text else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _vae(name: str | None, sha256: str) -> dict[str, Any]:
    """A named VAE, as the name of its file; the checkpoint's own is not mentioned."""
    known = {"VAE hash": sha256[:10]} if sha256 else {}
    return {} if name is None else {**known, "VAE": quote_exactly(f"{name}.safetensors")}


def _variation(generation: Generation, seed: int | None) -> dict[str, Any]:
    variation = generation.variation
    pairs: dict[str, Any] = {}
    if variation and variation.strength:
        pairs["Variation seed"] = variation.seed if seed is None else seed
        pairs["Variation seed strength"] = _number(variation.strength)
    if variation and variation.resizes:
        pairs["Seed resize from"] = f"{variation.from_width}x{variation.from_height}"
    return pairs


def _denoising(generation: Generation) -> dict[str, Any]:
    if isinstance(generation, Img2Img):
        pairs = {"Denoising strength": _number(generation.denoising_strength)}
        if generation.inpainting and generation.inpainting.mask_weight != 1:
            pairs["Conditional mask weight"] = _number(generation.inpainting.mask_weight)
        return pairs
    hires = generation.hires if isinstance(generation, Txt2Img) else None
    return {"Denoising strength": _number(hires.denoising_strength)} if hires else {}


def _hires(generation: Generation, checkpoints: Mapping[str, str]) -> dict[str, Any]:
    hires = generation.hires if isinstance(generation, Txt2Img) else None
    if hires is None:
        return {}
    texts = {
        "Hires checkpoint": _checkpoint(hires.checkpoint, checkpoints),
        "Hires sampler": hires.sampler,
        "Hires prompt": quote_exactly(_uncommented(hires.prompt)),
        "Hires negative prompt": quote_exactly(_uncommented(hires.negative_prompt)),
        "Hires schedule type": hires.schedule,
        **_hires_size(hires),
        "Hires steps": hires.steps,
        "Hires upscaler": quote_exactly(hires.upscaler),
    }
    return {label: text for label, text in texts.items() if text}


def _hires_size(hires: HiresFix) -> dict[str, str]:
    if hires.resize_width or hires.resize_height:
        return {"Hires resize": f"{hires.resize_width}x{hires.resize_height}"}
    return {"Hires upscale": _number(hires.scale)}


def _masked(generation: Generation) -> dict[str, Any]:
    if not isinstance(generation, Img2Img):
        return {}
    multiplier = generation.noise_multiplier
    pairs = {"Noise multiplier": _number(multiplier)} if multiplier != 1 else {}
    return pairs | (_inpainting(generation.inpainting) if generation.inpainting else {})


def _inpainting(inpainting: Inpainting) -> dict[str, Any]:
    pairs: dict[str, Any] = {"Mask blur": inpainting.blur} if inpainting.blur else {}
    if inpainting.inverted:
        pairs["Mask mode"] = "Inpaint not masked"
    if inpainting.fill != "original":
        pairs["Masked content"] = inpainting.fill
    if inpainting.only_masked:
        pairs |= {"Inpaint area": "Only masked", "Masked area padding": inpainting.padding}
    return pairs


def _checkpoint(name: str | None, hashes: Mapping[str, str]) -> str:
    """A checkpoint by name and short hash."""
    sha256 = hashes.get(name or "")
    return quote_exactly(f"{name} [{sha256[:10]}]" if sha256 else name or "")


def _refiner(refiner: Refiner | None, checkpoints: Mapping[str, str]) -> dict[str, Any]:
    if refiner is None:
        return {}
    name = _checkpoint(refiner.checkpoint, checkpoints)
    return {"Refiner": name, "Refiner switch at": _number(refiner.switch_at)}


def _always(generation: Generation) -> frozenset[str]:
    """Options that are told even where they are as usual: the shape of a Beta schedule."""
    schedules = {generation.schedule}
    if isinstance(generation, Txt2Img) and generation.hires:
        schedules.add(generation.hires.schedule or "")
    return frozenset({"beta_alpha", "beta_beta"}) if "Beta" in schedules else frozenset()


def _options(
    options: Options, known: Mapping[str, str], always: Iterable[str] = frozenset()
) -> dict[str, Any]:
    """The options that are not as usual, by their labels."""
    told = {}
    for name, label in known.items():
        value = getattr(options, name)
        if value != getattr(_DEFAULTS, name) or name in always:
            told[label] = _number(value) if type(value) is float else value
    return told


def _listed(label: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Hashes by name in one value; commas and colons of names would be taken for its own."""
    listed = ", ".join(f"{re.sub('[:,]', '', name)}: {hashed}" for name, hashed in hashes.items())
    return {label: quote(listed)} if listed else {}


def _hidden_prompts(prompt: str, negative: str) -> dict[str, str]:
    """The prompts that would come back different, in a form that does not."""
    lines = syntax.joined(prompt, negative, "").strip().split("\n")
    read_prompt, read_negative = syntax.prompts(lines)
    hidden = {}
    if read_prompt != prompt:
        hidden[labels.EXACT_PROMPT] = quote_exactly(prompt)
    if read_negative != negative:
        hidden[labels.EXACT_NEGATIVE_PROMPT] = quote_exactly(negative)
    return hidden
