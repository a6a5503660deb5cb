"""What a saved object is, as tensors by name and metadata, in the form the engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbrush.conversion import hypernetworks, names
from cloudbrush.conversion.pickles import Made, TensorPart
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_signs import is_lone_embedding

WRAPPERS = ("state_dict", "params_ema", "params")  # of checkpoints and VAEs, and of upscalers
_TOLD = ("name", "step", "sd_checkpoint", "sd_checkpoint_name")  # what trainers note
_MAX_NOTE = 500  # characters
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Contents:
    """Tensors by name, and metadata, which are texts."""

    tensors: Mapping[str, TensorPart]
    metadata: dict[str, str] = field(default_factory=dict)


def contents_of(saved: Any) -> Contents:
    """The weights of a saved object, without what is around them; raises `ModelFileError` if it has none."""
    if isinstance(saved, dict) and "string_to_param" in saved:
        return Contents({"emb_params": _learned(saved["string_to_param"])}, notes(saved))
    if isinstance(saved, dict) and hypernetworks.is_one(saved):
        tensors, metadata = hypernetworks.tensors_of(saved)
        return Contents(tensors, {**metadata, **notes(saved)})
    weights = _weights(saved)
    if arrays := [key for key, part in weights.items() if isinstance(part, Made) and part.by in names.ARRAYS]:
        raise ModelFileError(f"its {names.shown(arrays[0])} is an array of numpy; a tensor was expected")
    tensors = {key: part for key, part in weights.items() if isinstance(part, TensorPart)}
    if not tensors:
        raise ModelFileError(
            "it holds no weights by name", hint="It may be of a form that is not known here."
        )
    if is_lone_embedding({key: part.shape for key, part in tensors.items()}):
        ((word, part),) = tensors.items()
        return Contents({"emb_params": part}, {"name": word[:_MAX_NOTE]})
    return Contents(tensors)


def notes(saved: Mapping[Any, Any]) -> dict[str, str]:
    """What the trainer noted, as texts."""
    found = {name: saved.get(name) for name in _TOLD}
    return {name: str(value)[:_MAX_NOTE] for name, value in found.items() if type(value) in (str, int)}


def _weights(saved: Any) -> dict[str, Any]:
    """The dictionary of weights by name, out of what is wrapped around it."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(saved, dict):
            break
        wrapper = next((name for name in WRAPPERS if isinstance(saved.get(name), dict)), None)
        if wrapper is None:
            return {key: part for key, part in saved.items() if isinstance(key, str)}
        saved = saved[wrapper]
    if isinstance(saved, Made):
        raise ModelFileError(f"it holds the object {names.shown(saved.by)}, not plain weights")
    raise ModelFileError("it holds no dictionary of weights")


def _learned(params: Any) -> TensorPart:
    """The vectors of a textual inversion, which has one word."""
    if isinstance(params, Made) and params.by == names.PARAMETERS and isinstance(params.state, dict):
        params = params.state.get("_parameters")
    parts = list(params.values()) if isinstance(params, dict) else []
    if len(parts) != 1 or not isinstance(parts[0], TensorPart):
        raise ModelFileError("it is a textual inversion, but not of one word")
    return parts[0]
