"""The published upscalers in plain torch, over the tensors of their files; and such files, random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Naming:
    """How a publication's files spell an RRDB network; `{b}` block, `{d}` dense block, `{c}` convolution."""

    first: str
    dense: str
    trunk: str
    ups: tuple[str, ...]
    fine: str
    last: str


def of_2018(blocks: int, doublings: int) -> Naming:
    """ESRGAN as first published: layers of one sequence, in which upsampling and activation count too."""
    ups = tuple(f"model.{3 * number}" for number in range(1, doublings + 1))
    after = 3 * doublings + 2
    dense = "model.1.sub.{b}.RDB{d}.conv{c}.0"
    return Naming("model.0", dense, f"model.1.sub.{blocks}", ups, f"model.{after}", f"model.{after + 2}")


def of_2020(blocks: int, doublings: int) -> Naming:
    """ESRGAN as published later, and BSRGAN."""
    ups = tuple(f"upconv{number}" for number in range(1, doublings + 1))
    return Naming("conv_first", "RRDB_trunk.{b}.RDB{d}.conv{c}", "trunk_conv", ups, "HRconv", "conv_last")


def of_2021(blocks: int, doublings: int) -> Naming:
    """Real-ESRGAN."""
    ups = tuple(f"conv_up{number}" for number in range(1, doublings + 1))
    return Naming("conv_first", "body.{b}.rdb{d}.conv{c}", "conv_body", ups, "conv_hr", "conv_last")


@dataclass(frozen=True)
class Rrdb:
    """A file of an RRDB network."""

    naming: Callable[[int, int], Naming]
    blocks: int = 2
    doublings: int = 2
    fold: int = 1  # pixels a side that become channels
    width: int = 6
    growth: int = 4

    @property
    def names(self) -> Naming:
        return self.naming(self.blocks, self.doublings)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name of each convolution -> shape of its weight."""
        names, width = self.names, self.width
        found = {names.first: (width, 3 * self.fold**2), names.trunk: (width, width)}
        for b in range(self.blocks):
            for d in (1, 2, 3):
                for c in (1, 2, 3, 4, 5):
                    out = width if c == 5 else self.growth
                    found[names.dense.format(b=b, d=d, c=c)] = (out, width + (c - 1) * self.growth)
        found |= dict.fromkeys((*names.ups, names.fine), (width, width))
        found[names.last] = (3, width)
        return {name: (*shape, 3, 3) for name, shape in found.items()}

    def weights(self) -> Weights:
        draw = torch.Generator().manual_seed(0)
        found = {}
        for name, shape in self.shapes().items():
            found[f"{name}.weight"] = 0.2 * torch.randn(shape, generator=draw)
            found[f"{name}.bias"] = 0.2 * torch.randn(shape[:1], generator=draw)
        return found

    def enlarged(self, weights: Weights, x: Tensor) -> Tensor:
        """ESRGAN, section 3.1 and figure 4: residual scaling 0.2, leaky slope 0.2, nearest doublings."""
        names = self.names

        def conv(name: str, x: Tensor) -> Tensor:
            return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

        def rectified(x: Tensor) -> Tensor:
            return torch.where(x > 0, x, 0.2 * x)

        rows, _, height, width = x.shape
        fold = self.fold
        folded = x.reshape(rows, 3, height // fold, fold, width // fold, fold).permute(0, 1, 3, 5, 2, 4)
        first = conv(names.first, folded.reshape(rows, -1, height // fold, width // fold))
        body = first
        for b in range(self.blocks):
            inner = body
            for d in (1, 2, 3):
                x1 = rectified(conv(names.dense.format(b=b, d=d, c=1), inner))
                x2 = rectified(conv(names.dense.format(b=b, d=d, c=2), torch.cat([inner, x1], 1)))
                x3 = rectified(conv(names.dense.format(b=b, d=d, c=3), torch.cat([inner, x1, x2], 1)))
                x4 = rectified(conv(names.dense.format(b=b, d=d, c=4), torch.cat([inner, x1, x2, x3], 1)))
                x5 = conv(names.dense.format(b=b, d=d, c=5), torch.cat([inner, x1, x2, x3, x4], 1))
                inner = inner + 0.2 * x5
            body = body + 0.2 * inner
        y = first + conv(names.trunk, body)
        for up in names.ups:
            y = rectified(conv(up, y.repeat_interleave(2, 2).repeat_interleave(2, 3)))
        return conv(names.last, rectified(conv(names.fine, y)))


@dataclass(frozen=True)
class Srvgg:
    """A file of Real-ESRGAN's compact network."""

    layers: int = 3
    scale: int = 4
    width: int = 6

    def weights(self) -> Weights:
        draw = torch.Generator().manual_seed(0)
        found = {}
        for layer in range(self.layers + 2):
            inputs = 3 if layer == 0 else self.width
            out = 3 * self.scale**2 if layer == self.layers + 1 else self.width
            found[f"body.{2 * layer}.weight"] = 0.2 * torch.randn(out, inputs, 3, 3, generator=draw)
            found[f"body.{2 * layer}.bias"] = 0.2 * torch.randn(out, generator=draw)
            if layer <= self.layers:
                found[f"body.{2 * layer + 1}.weight"] = torch.rand(self.width, generator=draw)
        return found

    def enlarged(self, weights: Weights, x: Tensor) -> Tensor:
        """A stack of convolutions, each but the last with a slope learned per channel; the image added."""
        y = x
        for layer in range(self.layers + 2):
            name = f"body.{2 * layer}"
            y = functional.conv2d(y, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
            if layer <= self.layers:
                slope = weights[f"body.{2 * layer + 1}.weight"][None, :, None, None]
                y = torch.where(y > 0, y, slope * y)
        rows, _, height, width = x.shape
        scale = self.scale
        shuffled = y.reshape(rows, 3, scale, scale, height, width).permute(0, 1, 4, 2, 5, 3)
        plain = x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        return shuffled.reshape(rows, 3, height * scale, width * scale) + plain
