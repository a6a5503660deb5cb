"""Networks that enlarge images, from files; one file per architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header, inspect
from cloudbrush.engine import memory
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models import weights
from cloudbrush.engine.models.checkpoint import Placement
from cloudbrush.engine.upscale import compact, rrdb
from cloudbrush.engine.upscale.tiles import enlarged_by_tiles

READERS = (rrdb.read, compact.read)  # each knows its own files by their names


def _go_on() -> None:
    """The check that never objects."""


@dataclass(frozen=True, eq=False)
class Upscaler:
    """A network that makes images so many times as large."""

    network: nn.Module
    scale: int
    placement: Placement

    def __call__(self, image: Image.Image, check: Callable[[], None] = _go_on) -> Image.Image:
        """The RGB image enlarged; `check` is called before each tile and may raise to end it.

        Raises `GenerationFailed` when not even a tile fits into memory.
        """

        def enlarge(tile: np.ndarray) -> np.ndarray:
            check()
            return self._enlarge(tile)

        try:
            return Image.fromarray(enlarged_by_tiles(np.array(image.convert("RGB")), self.scale, enlarge))
        except Exception as error:
            if not memory.ran_out(error):
                raise
            memory.release()
            raise memory.too_large("enlarging an image of this size") from error

    @torch.inference_mode()
    def _enlarge(self, tile: np.ndarray) -> np.ndarray:
        """(height, width, 3) in 8 bits, rounded; the network sees blue first, as the WebUI shows it."""
        where, dtype = self.placement.device, self.placement.denoiser_dtype
        pixels = torch.from_numpy(tile[:, :, ::-1].copy()).to(where).permute(2, 0, 1)
        output: Tensor = self.network((pixels.float() / 255).to(dtype)[None])[0].float()
        eight_bits = (output.clamp(0, 1) * 255).round().to(torch.uint8)
        return eight_bits.permute(1, 2, 0).cpu().numpy()[:, :, ::-1]


def load_upscaler(file: ModelFile, placement: Placement) -> Upscaler:
    """The network in a safetensors file; raises `ModelFileError`, before memory is taken, for any other."""
    header = weights.header_of(file.path)
    try:
        network, scale, names = _read(header)
        expected = weights.expected_shapes(network, names)
        weights.check(header, expected, [key for key in header.tensors if key not in expected], "an upscaler")
    except ModelFileError as error:
        raise ModelFileError(error.detail, field="hires.upscaler", hint=error.hint) from error
    weights.load(file.path, network, names, placement.device, placement.denoiser_dtype)
    return Upscaler(network.eval().requires_grad_(False), scale, placement)


def _read(header: Header) -> tuple[nn.Module, int, dict[str, str]]:
    """The network without its weights, its scale, and its names in the file."""
    for read in READERS:
        with torch.device("meta"):
            found = read(header)
        if found is not None:
            return found
    raise _other(header)


def _other(header: Header) -> ModelFileError:
    """The refusal of a file by what it is, as far as that is known."""
    try:
        kind = inspect(header).kind
    except ModelFileError as error:
        return ModelFileError(error.detail, hint=_KNOWN)
    if kind is AssetKind.UPSCALER:
        return ModelFileError("this is an upscaler of a kind that Cloudbrush does not know", hint=_KNOWN)
    return ModelFileError(f"this is {kind.phrase}; an upscaler was expected", hint=_KNOWN)


_KNOWN = "Upscalers of ESRGAN, Real-ESRGAN, BSRGAN and Real-ESRGAN's compact ones can be used."
