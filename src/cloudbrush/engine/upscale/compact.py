"""Real-ESRGAN's compact network (SRVGGNetCompact): a plain stack of convolutions beside the image itself."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header
from cloudbrush.engine.models import shapes

COLOURS = 3
MOST_SCALE = 8


class Compact(nn.Module):
    """(rows, 3, height, width) in 0..1 to `scale` times the size."""

    def __init__(self, width: int, layers: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        body: list[nn.Module] = [nn.Conv2d(COLOURS, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(layers):
            body += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        body.append(nn.Conv2d(width, COLOURS * scale**2, 3, padding=1))
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        fine: Tensor = functional.pixel_shuffle(self.body(x), self.scale)
        return fine + functional.interpolate(x, scale_factor=float(self.scale))


def read(header: Header) -> tuple[nn.Module, int, dict[str, str]] | None:
    """The network a file holds, its scale, and its names there; None if it holds another."""
    if "body.0.weight" not in header or "body.1.weight" not in header:
        return None
    last = shapes.count(header, "body.{}.weight") - 1
    scale = math.isqrt(shapes.plane(header, f"body.{last}.weight")[0] // COLOURS)
    if last % 2 or not 1 <= scale <= MOST_SCALE:
        raise ModelFileError(
            f"the upscaler's last layer gives no picture of 1 to {MOST_SCALE} times the size"
        )
    width = shapes.plane(header, "body.0.weight")[0]
    network = Compact(width, last // 2 - 1, scale)
    return network, scale, {name: name for name in network.state_dict()}
