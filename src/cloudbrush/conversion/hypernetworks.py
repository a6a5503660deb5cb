"""Hypernetworks out of the WebUI's pickles, in the safetensors form the engine reads (specification 4.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from cloudbrush.conversion.pickles import TensorPart
from cloudbrush.domain.errors import ModelFileError

Shapes = dict[str, tuple[int, ...]]
_MAX_LAYERS = 32
_OLD_NAMES = {"linear1": "linear.0", "linear2": "linear.1"}


def is_one(saved: Mapping[Any, Any]) -> bool:
    """Whether a dictionary has pairs of nets by the width of what they alter."""
    return any(type(width) is int and isinstance(pair, tuple | list) for width, pair in saved.items())


def tensors_of(saved: Mapping[Any, Any]) -> tuple[dict[str, TensorPart], dict[str, str]]:
    """Tensors and metadata; raises `ModelFileError` for what is not whole.

    Dropout is left out, with the layers counted anew.
    """
    structure = _structure(saved)
    activation = saved.get("activation_func") or "linear"
    norm, last = bool(saved.get("is_layer_norm")), saved.get("activate_output") is not False
    tensors: dict[str, TensorPart] = {}
    for width, pair in saved.items():
        if type(width) is not int:
            continue
        if not isinstance(pair, list | tuple) or len(pair) < 2 or not 0 < width < 10**6:
            raise ModelFileError(f"its entry {width} is no pair of nets")
        layers = _layers(width, structure, activated=activation != "linear", norm=norm, last=last)
        for half, net in zip("kv", pair, strict=False):
            where = f"{width}.{half}.linear"
            tensors |= {f"{where}.{name}": part for name, part in _counted_anew(net, layers, where).items()}
    return tensors, {
        "layer_structure": json.dumps(structure),
        "activation_func": str(activation)[:40],
        "is_layer_norm": json.dumps(norm),
        "activate_output": json.dumps(last),
    }


def _structure(saved: Mapping[Any, Any]) -> list[float]:
    """Widths of the layers, per width of the input."""
    structure = saved.get("layer_structure") or [1, 2, 1]
    if (
        not isinstance(structure, list | tuple)
        or not 2 <= len(structure) <= _MAX_LAYERS
        or not all(type(times) in (int, float) and 0 < times <= 64 for times in structure)
    ):
        raise ModelFileError("it is a hypernetwork whose layer_structure cannot be built")
    return list(structure)


def _layers(
    width: int, structure: list[float], *, activated: bool, norm: bool, last: bool
) -> dict[int, Shapes]:
    """The shapes of weights by the place of their layer, where activations take places too."""
    layers: dict[int, Shapes] = {}
    place = 0
    for index, (times, more) in enumerate(pairwise(structure)):
        given, made = int(width * times), int(width * more)
        layers[place] = {"weight": (made, given), "bias": (made,)}
        place += 1
        if activated and (index < len(structure) - 2 or last):
            place += 1
        if norm:
            layers[place] = {"weight": (made,), "bias": (made,)}
            place += 1
    return layers


def _counted_anew(net: Any, layers: dict[int, Shapes], where: str) -> dict[str, TensorPart]:
    """A net's weights by their places in `layers`: their order is the same, whatever lies between."""
    by_layer: dict[int, dict[str, TensorPart]] = {}
    for key, part in net.items() if isinstance(net, dict) else ():
        layer, _, leaf = str(key).rpartition(".")
        match = re.fullmatch(r"linear\.(\d{1,3})", _OLD_NAMES.get(layer, layer))
        if match is None or not isinstance(part, TensorPart):
            raise ModelFileError(f"its {where} has {str(key)[:60]!r}, which is not known")
        by_layer.setdefault(int(match[1]), {})[leaf] = part
    if len(by_layer) != len(layers):
        raise ModelFileError(f"its {where} has not the layers of its structure")
    found: dict[str, TensorPart] = {}
    for (place, shapes), old in zip(layers.items(), sorted(by_layer), strict=True):
        if {leaf: part.shape for leaf, part in by_layer[old].items()} != shapes:
            raise ModelFileError(f"its {where} has not the shapes of its structure")
        found |= {f"{place}.{leaf}": part for leaf, part in by_layer[old].items()}
    return found
