"""Networks merged into a module's weights, and taken out again bit for bit.

Only who runs the module may `set`; any thread may ask where a network is `bound`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks.lora import Binding, Bound, Network, bind
from cloudbrush.engine.networks.names import targets


@dataclass(frozen=True, eq=False)
class Wanted:
    """A network as a prompt asks for it."""

    network: Network
    te: float = 1.0  # multiplier at the text encoders
    unet: float = 1.0  # multiplier at the denoiser
    dyn: int | None = None  # ranks kept

    def multiplier(self, component: Component) -> float:
        """How strongly the network acts on a module of the checkpoint."""
        return self.unet if component == Component.UNET else self.te

    def key(self, component: Component) -> tuple[str, float, int | None]:
        """What must be equal for two of them to change a module alike."""
        return (self.network.sha256, self.multiplier(component), self.dyn)


Change = tuple[Binding, float, int | None]  # a unit, its multiplier, ranks kept
Key = tuple[tuple[str, float, int | None], ...]


def key_of(wanted: Iterable[Wanted], component: Component) -> Key:
    """What decides about a module's weights: equal keys, equal weights."""
    return tuple(one.key(component) for one in wanted if one.multiplier(component) != 0)


class Patches:
    """The networks in one module; keeps the original of what they touch on `backups_on`, or beside it."""

    def __init__(
        self, module: nn.Module, component: Component, *, backups_on: torch.device | None = None
    ) -> None:
        self._module = module
        self._component = component
        self._backups_on = backups_on
        self._targets = targets(module, component)
        self._binding = threading.Lock()
        self._bound: WeakKeyDictionary[Network, Bound] = WeakKeyDictionary()
        self._weights: dict[str, Tensor] = {}  # path of a touched layer -> its weight before
        self._biases: dict[str, Tensor | None] = {}
        self._key: Key = ()

    @property
    def key(self) -> Key:
        """What is in the module now, as `key_of` tells it."""
        return self._key

    def bound(self, network: Network) -> Bound:
        """Where the network acts on this module; raises `ModelFileError` when its shapes do not fit."""
        with self._binding:
            if network not in self._bound:
                self._bound[network] = bind(network, self._module, self._targets, self._component)
            return self._bound[network]

    @torch.no_grad()
    def set(self, wanted: Sequence[Wanted]) -> None:
        """Have exactly these networks in the module, merged in their order; costs nothing if they are.

        Raises `ModelFileError` for one that does not fit, with the module unchanged; after any other
        failure no network is in it.
        """
        key = key_of(wanted, self._component)
        if key == self._key:
            return
        changes = self._changes(wanted)
        self._key = ()
        try:
            for path in {**dict.fromkeys(self._weights), **dict.fromkeys(self._biases), **changes}:
                self._write(path, changes.get(path, []))
        except BaseException:  # such as memory that ran out: half of a network would paint nonsense
            for path in {**self._weights, **self._biases}:
                self._write(path, [])
            raise
        self._key = key

    def _changes(self, wanted: Sequence[Wanted]) -> dict[str, list[Change]]:
        """Path of a layer -> what is to be done to it, in order."""
        changes: dict[str, list[Change]] = {}
        for one in wanted:
            multiplier = one.multiplier(self._component)
            if multiplier == 0:
                continue
            for path, binding in self.bound(one.network).layers.items():
                changes.setdefault(path, []).append((binding, multiplier, one.dyn))
        return changes

    def _write(self, path: str, changes: Sequence[Change]) -> None:
        layer = self._module.get_submodule(path)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        assert bias is None or isinstance(bias, Tensor)
        old_weight = self._weights.get(path, weight).to(weight.device)
        old_bias = self._biases.get(path, bias)
        new_weight, new_bias = _merged(old_weight, old_bias, changes)
        if new_weight is not old_weight and path not in self._weights:
            self._weights[path] = self._kept(weight)
        if new_bias is not old_bias and path not in self._biases:
            self._biases[path] = None if bias is None else self._kept(bias)
        weight.copy_(new_weight)
        if path in self._biases:
            _set_bias(layer, new_bias)
        if new_weight is old_weight:
            self._weights.pop(path, None)
        if new_bias is old_bias:
            self._biases.pop(path, None)

    def _kept(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self._backups_on or tensor.device, copy=True)


def _merged(weight: Tensor, bias: Tensor | None, changes: Sequence[Change]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias after the changes, one by one: each sees, rounded, what those before it left.

    Counted in float32 or better, as low-precision weights would lose what the factors say. What no change
    touches is returned as it is.
    """
    for binding, multiplier, dyn in changes:
        precise = torch.promote_types(weight.dtype, torch.float32)
        change, bias_change = binding.changes(weight.to(precise), dyn)
        if bias_change is not None:
            shift = bias_change * multiplier
            bias = shift.to(weight.dtype) if bias is None else (bias.to(shift) + shift).to(bias.dtype)
        weight = (weight.to(precise) + change * multiplier).to(weight.dtype)
    return weight, bias


def _set_bias(layer: nn.Module, bias: Tensor | None) -> None:
    """Into the layer's own tensor where it has one; a layer that had none gets, or loses, a new one."""
    if isinstance(layer.bias, Tensor) and bias is not None:
        layer.bias.copy_(bias)
    else:
        layer.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
