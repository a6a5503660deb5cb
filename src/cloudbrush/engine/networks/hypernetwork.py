"""Hypernetworks: small networks before the keys and values of attention (specification 4.3).

As safetensors (a convention of Cloudbrush; the WebUI has pickles only, which `conversion` rewrites): tensors
`<width>.<k|v>.linear.<i>.weight` and `.bias`, i counting linear layers, activations and norms as they follow
each other. Metadata, all texts: `layer_structure` (JSON list, default [1, 2, 1]), `activation_func` (default
linear), `is_layer_norm` (JSON, default false), `activate_output` (JSON, default true), `name`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models import weights
from cloudbrush.engine.networks import files

MAX_LAYERS = 32
_TENSOR = re.compile(r"([1-9]\d{0,5})\.([kv])\.(linear\.\d+\.(?:weight|bias))\Z")
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "selu": nn.SELU,
    "celu": nn.CELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "swish": nn.Hardswish,
    "hardswish": nn.Hardswish, "hardtanh": nn.Hardtanh, "hardsigmoid": nn.Hardsigmoid,
    "hardshrink": nn.Hardshrink, "softshrink": nn.Softshrink, "softplus": nn.Softplus,
    "softsign": nn.Softsign, "tanh": nn.Tanh, "tanhshrink": nn.Tanhshrink, "sigmoid": nn.Sigmoid,
    "logsigmoid": nn.LogSigmoid,
}  # fmt: skip


@dataclass(frozen=True)
class Structure:
    """What the nets of a hypernetwork are made of."""

    widths: tuple[float, ...] = (1, 2, 1)  # of the layers, per width of the input
    activation: str | None = None
    norm: bool = False
    activate_output: bool = True

    def build(self, width: int) -> nn.Sequential:
        """One net for inputs of a width, without memory for its weights."""
        layers: list[nn.Module] = []
        last = len(self.widths) - 2
        with torch.device("meta"):
            for index in range(last + 1):
                given, made = (int(width * times) for times in self.widths[index : index + 2])
                layers.append(nn.Linear(given, made))
                if self.activation is not None and (index < last or self.activate_output):
                    layers.append(_ACTIVATIONS[self.activation]())
                if self.norm:
                    layers.append(nn.LayerNorm(made))
            return nn.Sequential(*layers).eval().requires_grad_(False)

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> Structure:
        """The structure from metadata, as JSON values; raises `ModelFileError` for what cannot be built."""
        widths = metadata.get("layer_structure") or [1, 2, 1]
        activation = metadata.get("activation_func") or "linear"
        if not _is_structure(widths):
            raise ModelFileError(f"the hypernetwork's layer_structure {widths!r:.60} cannot be built")
        if activation not in _ACTIVATIONS and activation != "linear":
            raise ModelFileError(
                f"the hypernetwork's activation {activation!r:.40} is not known",
                hint=f"Known are linear, {', '.join(_ACTIVATIONS)}.",
            )
        return cls(
            tuple(widths),
            None if activation == "linear" else activation,
            bool(metadata.get("is_layer_norm", False)),
            bool(metadata.get("activate_output", True)),
        )


def _is_structure(widths: Any) -> bool:
    return (
        isinstance(widths, list | tuple)
        and 2 <= len(widths) <= MAX_LAYERS
        and all(type(times) in (int, float) and 0 < times <= 64 for times in widths)
        and widths[0] == widths[-1] == 1
    )


@dataclass(frozen=True, eq=False)
class Hypernetwork:
    """Nets for the inputs of keys and of values, by the width of those inputs; float32."""

    name: str
    sha256: str
    nets: Mapping[int, tuple[nn.Sequential, nn.Sequential]]

    def to(self, device: torch.device) -> Hypernetwork:
        """The same hypernetwork on a device; its nets move."""
        return Hypernetwork(
            self.name,
            self.sha256,
            {width: (k.to(device), v.to(device)) for width, (k, v) in self.nets.items()},
        )


def read_hypernetwork(file: ModelFile) -> Hypernetwork:
    """The hypernetwork in a `.safetensors` file; raises `ModelFileError` when it is none or not whole."""
    header = weights.header_of(file.path)
    matches = {key: match for key in header.tensors if (match := _TENSOR.match(key))}
    if not matches:
        raise files.wrong_kind(header, "a hypernetwork", field="hypernetwork")
    structure = Structure.read({name: _json(name, text) for name, text in header.metadata.items()})
    widths = sorted({int(match[1]) for match in matches.values()})
    nets = {(width, half): structure.build(width) for width in widths for half in "kv"}
    expected = {
        f"{width}.{half}.linear.{name}": tuple(tensor.shape)
        for (width, half), net in nets.items()
        for name, tensor in net.state_dict().items()
    }
    extra = [key for key in header.tensors if key not in expected]
    weights.check(header, expected, extra, "a hypernetwork of this structure")
    found = files.tensors(file.path, expected)
    for (width, half), net in nets.items():
        start = f"{width}.{half}.linear."
        net.load_state_dict({key: found[f"{start}{key}"].float() for key in net.state_dict()}, assign=True)
    pairs = {width: (nets[width, "k"], nets[width, "v"]) for width in widths}
    return Hypernetwork(file.name, file.sha256, pairs)


def _json(name: str, text: str) -> Any:
    if name not in ("layer_structure", "is_layer_norm", "activate_output"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"the hypernetwork's {name} is {text[:40]!r}, which is no JSON") from error


@contextmanager
def applied(unet: nn.Module, wanted: Sequence[tuple[Hypernetwork, float]]) -> Iterator[None]:
    """While it lasts, each attention of the denoiser gets its keys and values from altered inputs.

    x + net(x) · multiplier, for each hypernetwork in order that has nets for x's width; counted in float32.
    """
    active = [(hypernetwork, multiplier) for hypernetwork, multiplier in wanted if multiplier != 0]
    with ExitStack() as hooks:
        for attention in unet.modules() if active else ():
            if isinstance(attention, Attention):
                for half, projection in enumerate((attention.to_k, attention.to_v)):
                    hook = projection.register_forward_pre_hook(partial(_altered, active, half))
                    hooks.callback(hook.remove)
        yield


def _altered(
    wanted: Sequence[tuple[Hypernetwork, float]], half: int, module: nn.Module, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    x, *others = inputs
    for hypernetwork, multiplier in wanted:
        nets = hypernetwork.nets.get(x.shape[-1])
        if nets is not None:
            precise = x.float()
            x = (precise + nets[half](precise) * multiplier).to(x.dtype)
    return (x, *others)
