"""ESRGAN's network (Wang et al. 2018, arXiv 1809.00219): residual in residual dense blocks, then doublings.

Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833) folds pixels into channels before it, for smaller scales.
"""

from __future__ import annotations

import math
import re

from torch import Tensor, cat, nn
from torch.nn import functional

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header
from cloudbrush.engine.models import shapes

RESIDUAL_SCALE = 0.2
SLOPE = 0.2  # of the leaky rectifier
COLOURS = 3
DENSE = 5  # convolutions of a dense block
MOST_DOUBLINGS = 3
FOLDS = (1, 2, 4)  # pixels a side that become channels

Found = tuple[nn.Module, int, dict[str, str]]  # the network, its scale, its names in the file


class DenseBlock(nn.Module):
    """Convolutions that each see the output of all before them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width + index * growth, growth if index < DENSE - 1 else width, 3, padding=1)
            for index in range(DENSE)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(functional.leaky_relu(conv(cat(seen, 1)), SLOPE))
        last: Tensor = self.convs[-1](cat(seen, 1))
        return x + last * RESIDUAL_SCALE


class ResidualBlock(nn.Module):
    """Three dense blocks under one residual."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for block in self.dense:
            inner = block(inner)
        return x + inner * RESIDUAL_SCALE


class RRDBNet(nn.Module):
    """(rows, 3, height, width) in 0..1 to 2^doublings/fold times the size."""

    def __init__(self, width: int, growth: int, blocks: int, doublings: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.first = nn.Conv2d(COLOURS * fold**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, growth) for _ in range(blocks))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(doublings))
        self.fine = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, COLOURS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        first = self.first(self._folded(x))
        inner = first
        for block in self.blocks:
            inner = block(inner)
        inner = first + self.trunk(inner)
        for up in self.ups:
            inner = functional.leaky_relu(up(functional.interpolate(inner, scale_factor=2.0)), SLOPE)
        output: Tensor = self.last(functional.leaky_relu(self.fine(inner), SLOPE))
        scale = 2 ** len(self.ups) // self.fold
        return output[:, :, : height * scale, : width * scale]

    def _folded(self, x: Tensor) -> Tensor:
        if self.fold == 1:
            return x
        missing = [-side % self.fold for side in x.shape[2:]]
        mode = "reflect" if min(x.shape[2:]) > self.fold else "replicate"
        x = functional.pad(x, (0, missing[1], 0, missing[0]), mode=mode)
        return functional.pixel_unshuffle(x, self.fold)


def read(header: Header) -> Found | None:
    """The network a file holds, in any of the three ways of naming its parts; None if it holds another."""
    for find in (_names_of_2018, _names_of_2020, _names_of_2021):
        names = find(header)
        if names is not None:
            return _network(header, names)
    return None


def _network(header: Header, names: dict[str, str]) -> Found:
    """The network by its parts: their names here -> in the file, both without .weight and .bias."""
    width, inputs = shapes.plane(header, f"{names['first']}.weight")
    growth, _ = shapes.plane(header, f"{names['blocks.0.dense.0.convs.0']}.weight")
    blocks = sum(part.endswith("dense.0.convs.0") for part in names)
    doublings = sum(part.startswith("ups.") for part in names)
    fold = math.isqrt(inputs // COLOURS)
    if fold not in FOLDS or inputs != COLOURS * fold**2 or 2**doublings < fold:
        raise ModelFileError("the upscaler's first layer takes in no picture")
    if doublings > MOST_DOUBLINGS:
        raise ModelFileError(f"the upscaler doubles {doublings} times; {MOST_DOUBLINGS} are known")
    network = RRDBNet(width, growth, blocks, doublings, fold)
    both = {f"{own}.{what}": f"{names[own]}.{what}" for own in names for what in ("weight", "bias")}
    return network, 2**doublings // fold, both


def _names_of_2018(header: Header) -> dict[str, str] | None:
    """ESRGAN's first files: one sequence of numbered layers."""
    if "model.1.sub.0.RDB1.conv1.0.weight" not in header:
        return None
    numbers = (re.fullmatch(r"model\.(\d{1,3})\.weight", key) for key in header.tensors)
    _, *ups, fine, last = sorted(int(match[1]) for match in numbers if match) or [0, 0, 0]
    after = 3 * len(ups)  # upsampling and activation count as layers too
    if (*ups, fine, last) != (*range(3, after + 1, 3), after + 2, after + 4):
        raise ModelFileError("the upscaler's layers are not in the order of ESRGAN's")
    blocks = shapes.count(header, "model.1.sub.{}.RDB1.conv1.0.weight")
    return {
        "first": "model.0",
        **_dense(blocks, "model.1.sub.{block}.RDB{dense}.conv{conv}.0"),
        "trunk": f"model.1.sub.{blocks}",
        **{f"ups.{number}": f"model.{layer}" for number, layer in enumerate(ups)},
        "fine": f"model.{fine}",
        "last": f"model.{last}",
    }


def _names_of_2020(header: Header) -> dict[str, str] | None:
    """ESRGAN's later files, and BSRGAN's."""
    return _named(header, "RRDB_trunk.{block}.RDB{dense}.conv{conv}", "trunk_conv", "upconv{}", "HRconv")


def _names_of_2021(header: Header) -> dict[str, str] | None:
    """Real-ESRGAN's files."""
    return _named(header, "body.{block}.rdb{dense}.conv{conv}", "conv_body", "conv_up{}", "conv_hr")


def _named(header: Header, block: str, trunk: str, up: str, fine: str) -> dict[str, str] | None:
    first = f"{block.format(block='{}', dense=1, conv=1)}.weight"
    if first.format(0) not in header:
        return None
    ups = (up.format(number) for number in range(1, MOST_DOUBLINGS + 2))
    doublings = [name for name in ups if f"{name}.weight" in header]
    return {
        "first": "conv_first",
        **_dense(shapes.count(header, first), block),
        "trunk": trunk,
        **{f"ups.{number}": name for number, name in enumerate(doublings)},
        "fine": fine,
        "last": "conv_last",
    }


def _dense(blocks: int, name: str) -> dict[str, str]:
    return {
        f"blocks.{block}.dense.{dense}.convs.{conv}": name.format(block=block, dense=dense + 1, conv=conv + 1)
        for block in range(blocks)
        for dense in range(3)
        for conv in range(DENSE)
    }
