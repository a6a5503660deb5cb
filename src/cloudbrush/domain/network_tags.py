"""What the `<lora:...>` and `<hypernet:...>` tags of a prompt ask for (specification 2.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cloudbrush.domain.asset import plain_name
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.prompt import NetworkTag

LORA_TAGS = ("lora", "lyco")
HYPERNETWORK_TAG = "hypernet"


@dataclass(frozen=True)
class LoraTag:
    """A LoRA by name, and how strongly it acts on text encoders and denoiser."""

    name: str
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None  # ranks kept; None keeps all

    @classmethod
    def read(cls, tag: NetworkTag, field: str = "prompt") -> LoraTag:
        """The positional form `name:te:unet:dyn`, overridden by `te=`, `unet=` and `dyn=`.

        The denoiser's strength defaults to the text encoders'. Raises `InvalidInput` for what is no number.
        """
        named = dict(tag.named)
        te = _number(tag, field, 1, named, "te", 1.0)
        unet = _number(tag, field, 2, named, "unet", te)
        dyn = _number(tag, field, 3, named, "dyn", math.inf)
        if dyn != math.inf and (dyn < 1 or dyn != int(dyn)):
            raise InvalidInput(f"dyn of {_text(tag)} must be a whole number from 1", field=field)
        return cls(_name(tag, field), te, unet, None if dyn == math.inf else int(dyn))


@dataclass(frozen=True)
class HypernetworkTag:
    """A hypernetwork by name, and how strongly it acts."""

    name: str
    multiplier: float = 1.0

    @classmethod
    def read(cls, tag: NetworkTag, field: str = "prompt") -> HypernetworkTag:
        """The form `name:multiplier`; raises `InvalidInput` for what is no number."""
        return cls(_name(tag, field), _number(tag, field, 1, {}, "the multiplier", 1.0))


def unknown_kind(tag: NetworkTag, field: str = "prompt") -> InvalidInput:
    """The refusal of a tag of a kind nobody knows."""
    return InvalidInput(
        f"the prompt's tag <{tag.kind[:40]}:{':'.join(tag.arguments)[:60]}> is of no kind that is known",
        field=field,
        hint="Known are <lora:name:1>, <lyco:name:1> and <hypernet:name:1>.",
    )


def _name(tag: NetworkTag, field: str) -> str:
    if not tag.arguments or not tag.arguments[0]:
        raise InvalidInput(f"{_text(tag)} names no network", field=field)
    return plain_name(tag.arguments[0])


def _number(
    tag: NetworkTag, field: str, position: int, named: Mapping[str, str], name: str, default: float
) -> float:
    text = named.get(name, tag.arguments[position] if position < len(tag.arguments) else None)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(
            f"{name} of {_text(tag)} is {text[:20]!r}, which is no number",
            field=field,
            hint="Write <lora:name:1> or <lora:name:te=1:unet=0.5>.",
        )
    return value


def _text(tag: NetworkTag) -> str:
    return f"<{tag.kind}:{':'.join(tag.arguments)[:60]}>"
