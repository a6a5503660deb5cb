"""LoRA and LyCORIS files: read, grouped by layer, and bound to the layers of a module.

Nothing is changed here; `patches` does that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header
from cloudbrush.domain.model_signs import lora_family
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models import weights
from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks import files, hashes
from cloudbrush.engine.networks.change import COMMON, Kind, bias_change, kind_of, weight_change
from cloudbrush.engine.networks.embedding import Embedding, embedding_of
from cloudbrush.engine.networks.names import flat_name, split_key
from cloudbrush.engine.networks.unit import NUMBERS, Unit

INPAINTING_INPUTS = 9  # of conv_in: 4 latents, the mask, 4 masked latents
_BUNDLED = "bundle_emb."

Parts = Mapping[str, str]  # part -> key in the file


@dataclass(frozen=True, eq=False)
class Network:
    """A LoRA or LyCORIS file in memory (on the CPU)."""

    name: str
    sha256: str
    shorthash: str  # as the WebUI prints it in `Lora hashes`
    alias: str  # the other name people may write in the tag
    family: str | None  # sd1, sd2, sdxl; None where the file does not tell
    units: tuple[Unit, ...]
    embeddings: tuple[Embedding, ...]  # textual inversions that belong to it
    unknown_keys: tuple[str, ...]  # keys of the file that are of no network


@dataclass(frozen=True)
class Binding:
    """A unit at its layer."""

    unit: Unit
    kind: Kind
    first_inputs: int | None  # of an inpainting conv_in the change is for these; None: for all

    def changes(self, weight: Tensor, dyn: int | None) -> tuple[Tensor, Tensor | None]:
        """(ΔW in W's shape, change of the bias if any) at multiplier 1, in W's precision and place."""
        unit = self.unit.to(weight.device, weight.dtype)
        if self.first_inputs is None:
            return weight_change(self.kind, unit, weight, dyn), bias_change(self.kind, unit)
        change = torch.zeros_like(weight)
        change[:, : self.first_inputs] = weight_change(self.kind, unit, weight[:, : self.first_inputs], dyn)
        return change, bias_change(self.kind, unit)


def read_network(file: ModelFile) -> Network:
    """The network in a `.safetensors` file; raises `ModelFileError` when it is none, or not a whole one."""
    header = weights.header_of(file.path)
    units, bundled, unknown = _grouped(header)
    if not units:
        raise files.wrong_kind(header, "a LoRA", field="lora")
    wanted = [key for parts in (*units.values(), *bundled.values()) for key in parts.values()]
    found = files.tensors(file.path, wanted)
    shorthash = hashes.lora_hash(file.path, header)
    return Network(
        name=file.name,
        sha256=file.sha256,
        shorthash=shorthash,
        alias=header.metadata.get("ss_output_name", file.name),
        family=lora_family(header.metadata),
        units=tuple(_unit(layer, parts, found) for layer, parts in units.items()),
        embeddings=tuple(
            embedding_of(name, files.chosen(parts, found), shorthash) for name, parts in bundled.items()
        ),
        unknown_keys=tuple(unknown),
    )


def bind(network: Network, module: nn.Module, targets: Mapping[str, str], component: Component) -> Bound:
    """The network's units at the layers of a module; `targets` as `names.targets` gives them.

    Raises `ModelFileError` naming the unit whose shape does not fit its layer. Nothing is computed.
    """
    layers: dict[str, Binding] = {}
    missing: list[str] = []
    for unit in network.units:
        name, components = flat_name(unit.layer)
        if component not in components:
            continue
        if name not in targets:
            missing.append(unit.layer)
            continue
        if targets[name] in layers:
            raise ModelFileError(f"the network {network.name!r} has two changes of {targets[name]}")
        layers[targets[name]] = _bound(unit, module.get_submodule(targets[name]), network.name)
    return Bound(layers, tuple(missing))


@dataclass(frozen=True)
class Bound:
    """A network at a module: path of a layer -> its unit, and the units for which there is no layer."""

    layers: Mapping[str, Binding]
    missing: tuple[str, ...]


def unmatched(network: Network, bounds: Sequence[Bound]) -> tuple[str, ...]:
    """Layers and keys of the file that found no place in any of a checkpoint's modules: worth a warning."""
    placed = {binding.unit.layer for bound in bounds for binding in bound.layers.values()}
    return (*(unit.layer for unit in network.units if unit.layer not in placed), *network.unknown_keys)


def _grouped(header: Header) -> tuple[dict[str, Parts], dict[str, Parts], list[str]]:
    """(layer -> its parts, bundled embedding -> its parts, keys that are neither)."""
    layers: dict[str, dict[str, str]] = defaultdict(dict)
    bundled: dict[str, dict[str, str]] = defaultdict(dict)
    unknown: list[str] = []
    for key in header.tensors:
        split = split_key(key)
        if key.startswith(_BUNDLED) and key.count(".") >= 2:
            _, name, part = key.split(".", 2)
            bundled[name][part] = key
        elif split is None:
            unknown.append(key)
        elif split[1] in layers[split[0]]:
            raise ModelFileError(f"{key[:100]!r} and {layers[split[0]][split[1]]!r} are the same part")
        else:
            layers[split[0]][split[1]] = key
    units: dict[str, Parts] = {}
    for layer, parts in layers.items():
        if COMMON.issuperset(parts):  # any module's weights look like this
            unknown.extend(parts.values())
        else:
            units[layer] = parts
            _check_stored(header, parts)
    for parts in bundled.values():
        files.check_stored(header, parts.values())
    return units, dict(bundled), unknown


def _check_stored(header: Header, parts: Parts) -> None:
    files.check_stored(header, (key for part, key in parts.items() if part not in NUMBERS))
    for part, key in parts.items():
        if part in NUMBERS:
            files.check_number(header, key)


def _unit(layer: str, parts: Parts, found: Mapping[str, Tensor]) -> Unit:
    if kind_of(parts) is None:
        raise ModelFileError(
            f"{layer[:100]} has only {', '.join(sorted(parts))}, which is no whole change of a layer",
            hint="The file may be incomplete, or of a kind Cloudbrush does not know.",
        )
    numbers = {part: files.number(key, found[key]) for part, key in parts.items() if part in NUMBERS}
    return Unit(layer, {part: found[key] for part, key in parts.items() if part not in NUMBERS}, numbers)


def _bound(unit: Unit, layer: nn.Module, network: str) -> Binding:
    """The unit at its layer, after its formula was tried on tensors without memory."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    kind = kind_of({*unit.tensors, *unit.numbers})
    assert kind is not None  # read_network refuses others
    shapes = unit.to(torch.device("meta"), torch.float32)
    whole = torch.empty(weight.shape, device="meta")
    fourth = 4 if weight.ndim == 4 and weight.shape[1] == INPAINTING_INPUTS else None
    problem = _misfit(kind, shapes, whole)
    if problem and fourth and not _misfit(kind, shapes, whole[:, :fourth]):
        return Binding(unit, kind, fourth)
    if problem:
        given = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in unit.tensors.items())
        raise ModelFileError(
            f"{unit.layer} of the network {network!r} ({kind.name}: {given}) does not fit a layer of the"
            f" shape {tuple(weight.shape)}",
            hint="The network was made for another family of checkpoints.",
        ) from problem
    return Binding(unit, kind, None)


def _misfit(kind: Kind, unit: Unit, weight: Tensor) -> Exception | None:
    try:
        change, bias = weight_change(kind, unit, weight), bias_change(kind, unit)
        if bias is not None:
            bias.reshape(weight.shape[:1])
        if change.shape != weight.shape:
            return ValueError(f"the change has the shape {tuple(change.shape)}")
    except (RuntimeError, ValueError, IndexError) as error:
        return error
    return None
