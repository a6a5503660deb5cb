"""Names of layers: as network files spell them, and as our modules do.

A key of a file is a layer and a part. Trainers write the layer in kohya's flat form (`lora_unet_` and the
module path with underscores, in diffusers' or in LDM's words) or as a dotted path (`unet.`, `text_encoder.`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from cloudbrush.engine.models import keys
from cloudbrush.engine.models.families import Component
from cloudbrush.engine.models.layout import UNET as LDM_UNET

LAYERS = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)  # what networks may change

# Part, under its LyCORIS name without `.weight` -> how kohya, LyCORIS, diffusers and PEFT spell it.
_PARTS: Mapping[str, str] = {
    "lora_up": r"lora_up\.weight|lora_B(?:\.\w+)?\.weight|lora(?:_linear_layer)?\.up\.weight",
    "lora_down": r"lora_down\.weight|lora_A(?:\.\w+)?\.weight|lora(?:_linear_layer)?\.down\.weight",
    "lora_mid": r"lora_mid\.weight",
    "magnitude": r"lora_magnitude_vector(?:\.\w+)*",
    **{f"hada_{name}": rf"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{name}": rf"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{name: rf"{name}\.weight" for name in ("a1", "a2", "b1", "b2")},
    **{name: name for name in ("oft_blocks", "oft_diag", "rescale", "dora_scale", "on_input")},
    **{name: name for name in ("diff", "diff_b", "w_norm", "b_norm", "alpha", "scale", "weight", "bias")},
}
_GROUPS = {f"p{number}": part for number, part in enumerate(_PARTS)}
_KEY = re.compile(
    r"(?P<layer>.+?)\.(?:"
    + "|".join(f"(?P<{group}>{_PARTS[part]})" for group, part in _GROUPS.items())
    + r")\Z"
)
_OLD_PROCESSOR = re.compile(r"\.processor\.to_(q|k|v|out)_lora\.(up|down)\.weight\Z")

_ALL = (Component.UNET, Component.TEXT, Component.TEXT_2)
_PREFIXES: tuple[tuple[str, tuple[Component, ...]], ...] = (  # the first that fits decides
    ("lora_unet_", (Component.UNET,)),
    ("oft_unet_", (Component.UNET,)),
    ("lora_te1_", (Component.TEXT,)),
    ("lora_te2_", (Component.TEXT_2,)),
    ("lora_te_", (Component.TEXT,)),
    ("base_model_model_", _ALL),
    ("model_diffusion_model_", (Component.UNET,)),
    ("diffusion_model_", (Component.UNET,)),
    ("unet_", (Component.UNET,)),
    ("text_encoder_2_", (Component.TEXT_2,)),
    ("text_encoder_", (Component.TEXT,)),
    ("", _ALL),
)
_TEXT_MODEL = "text_model."  # transformers' modules have or lack it, by class and version


def split_key(key: str) -> tuple[str, str] | None:
    """The layer, as the file spells it, and the part of a key; None for what no network file would hold."""
    key = _OLD_PROCESSOR.sub(_new_processor, key)
    match = _KEY.match(key)
    if match is None or match.lastgroup is None:
        return None
    return match["layer"], _GROUPS[match.lastgroup]


def _new_processor(match: re.Match[str]) -> str:
    layer = "to_out.0" if match[1] == "out" else f"to_{match[1]}"
    return f".{layer}.lora_{match[2]}.weight"


def flat_name(layer: str) -> tuple[str, tuple[Component, ...]]:
    """A layer as the file spells it -> its name in `targets`, and the modules it may belong to."""
    flat = layer.replace(".", "_")
    prefix, components = next(entry for entry in _PREFIXES if flat.startswith(entry[0]))
    name = flat.removeprefix(prefix)
    return (name if components == (Component.UNET,) else name.removeprefix("text_model_")), components


def targets(module: nn.Module, component: Component) -> dict[str, str]:
    """Flat name -> path of every layer of a module that networks may change; a path may have two names."""
    paths = [path for path, layer in module.named_modules() if isinstance(layer, LAYERS)]
    if component != Component.UNET:
        return {path.removeprefix(_TEXT_MODEL).replace(".", "_"): path for path in paths}
    return dict(_ldm_names(paths, _layers_per_level(module))) | {p.replace(".", "_"): p for p in paths}


def _ldm_names(paths: Iterable[str], layers: Sequence[int]) -> Iterator[tuple[str, str]]:
    for weight, ldm in keys.unet_names([f"{path}.weight" for path in paths], layers).items():
        name = ldm.removeprefix(LDM_UNET).removesuffix(".weight")
        yield name.replace(".", "_"), weight.removesuffix(".weight")


def _layers_per_level(unet: nn.Module) -> Sequence[int]:
    config: Any = unet.config
    layers, levels = config.layers_per_block, len(config.block_out_channels)
    return [layers] * levels if isinstance(layers, int) else list(layers)
