"""Safetensors headers: read within limits, and what models they describe. Neither torch nor weights.

Limits and checks guard against files made to exhaust memory or to read what is not theirs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_signs import FIRST_LAYER, recognise

MAX_HEADER = 25 * 2**20  # bytes
MAX_TENSORS = 20_000
MAX_RANK = 8
METADATA = "__metadata__"
DTYPE_BYTES = {
    dtype: size
    for size, dtypes in (
        (8, "F64 I64 U64"),
        (4, "F32 I32 U32"),
        (2, "F16 BF16 I16 U16"),
        (1, "I8 U8 BOOL F8_E4M3 F8_E5M2"),
    )
    for dtype in dtypes.split()
}
NATIVE_SIZES = {"sd1": 512, "sd2": 768, "sdxl": 1024, "sdxl-refiner": 1024}  # pixels a side
SD2_BASE_SIZE = 512  # of the SD2 checkpoints that predict epsilon
LATENT_CHANNELS = 4
V_KEY, ZERO_SNR_KEY = "v_pred", "ztsnr"  # tensors that mark what trainers have no other place for


@dataclass(frozen=True)
class TensorInfo:
    """Type, shape and place of one tensor; offsets in bytes count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself before its tensors."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int  # bytes, the eight of its length included

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor; raises `ModelFileError` when the file has none of that name."""
        if key not in self.tensors:
            raise ModelFileError(f"the tensor {key!r} is missing", hint="The file seems to be incomplete.")
        return self.tensors[key].shape


@dataclass(frozen=True)
class ModelInfo:
    """What a model file is, as far as its header tells."""

    kind: AssetKind
    family: str | None = None  # sd1, sd2, sdxl, sdxl-refiner; None when the file does not tell
    prediction: str | None = "epsilon"  # what its denoiser predicts: epsilon or v; None: only that can tell
    native_size: int = 512  # pixels a side
    zero_terminal_snr: bool = False  # trained down to pure noise (Lin et al. 2024)
    cfg_rescale: float = 0.0  # how much guided predictions are to be rescaled (Lin et al. 2024, 3.4)


def read_header(file: BinaryIO) -> Header:
    """The header of an open safetensors file, checked against the file's length.

    Raises `ModelFileError` for anything that is not a whole, plain safetensors file.
    """
    total = file.seek(0, 2)
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= total - 8:
        raise ModelFileError(f"this is not a safetensors file but {_looks_like(prefix)}", hint=_CONVERT)
    if length > MAX_HEADER:
        raise ModelFileError(f"the file's header claims {length} bytes; {MAX_HEADER} are allowed")
    return parse_header(file.read(length), body=total - 8 - length)


def parse_header(header: bytes, body: int) -> Header:
    """The header from its JSON bytes; `body` bytes of tensors must follow it. Raises `ModelFileError`."""
    try:
        content = json.loads(header, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            "this is not a safetensors file: its header is no JSON", hint=_CONVERT
        ) from error
    if not isinstance(content, dict):
        raise ModelFileError("this is not a safetensors file: its header is no JSON object", hint=_CONVERT)
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError("the file's metadata is not made of texts")
    if len(content) > MAX_TENSORS:
        raise ModelFileError(f"the file holds {len(content)} tensors; {MAX_TENSORS} are allowed")
    tensors = {key: _tensor(key, entry) for key, entry in content.items()}
    _check_places(tensors, body)
    return Header(tensors, metadata, 8 + len(header))


def read_info(file: BinaryIO) -> ModelInfo:
    """What an open file is; raises `ModelFileError` when it cannot be used."""
    return inspect(read_header(file))


def inspect(header: Header) -> ModelInfo:
    """What the file is, by the names of its tensors; raises `ModelFileError` when it is nothing known."""
    kind, family = recognise({key: tensor.shape for key, tensor in header.tensors.items()}, header.metadata)
    family = header.metadata.get("cloudbrush.family", family)
    prediction = _prediction(header, kind, family)
    usual = NATIVE_SIZES.get(family or "", 512)
    if (kind, family, prediction) == (AssetKind.CHECKPOINT, "sd2", "epsilon"):
        usual = SD2_BASE_SIZE
    rescale = header.metadata.get("cloudbrush.cfg_rescale", "0")
    if not re.fullmatch(r"0(\.\d{1,6})?|1(\.0{1,6})?", rescale):
        raise ModelFileError(f"the file claims a CFG rescale of {rescale[:20]!r}; 0 to 1 are known")
    return ModelInfo(
        kind, family, prediction, native_size(header.metadata, usual), ZERO_SNR_KEY in header, float(rescale)
    )


def native_size(metadata: Mapping[str, str], usual: int) -> int:
    """The pixels a side that metadata tell, or else the usual ones; raises `ModelFileError`."""
    resolution = re.fullmatch(r"([1-9]\d{1,3})x\1", metadata.get("modelspec.resolution", ""))
    size = metadata.get("cloudbrush.native_size", resolution[1] if resolution else str(usual))
    if not re.fullmatch(r"[1-9]\d{1,3}", size):
        raise ModelFileError(f"the file claims a native size of {size[:20]!r}, which is no number of pixels")
    return int(size)


def _prediction(header: Header, kind: AssetKind, family: str | None) -> str | None:
    """By metadata, or by the key that marks v; an SD2 denoiser of neither has to be tried."""
    told = header.metadata.get("cloudbrush.prediction")
    if told not in (None, "epsilon", "v"):
        raise ModelFileError(f"the file claims to predict {told[:40]!r}; known are 'epsilon' and 'v'")
    spec = header.metadata.get("modelspec.prediction_type", "").removesuffix("_prediction")
    if told is None and spec in ("epsilon", "v"):
        told = spec
    if told is None and V_KEY in header:
        told = "v"
    undecided = (kind, family) == (AssetKind.CHECKPOINT, "sd2") and _inputs(header) == LATENT_CHANNELS
    return told or (None if undecided else "epsilon")


def _inputs(header: Header) -> int:
    """Channels that the denoiser takes in."""
    return [*header.tensors[FIRST_LAYER].shape, 0, 0][1]


_CONVERT = (
    "Only whole .safetensors files are loaded; `cloudbrush models convert` makes them of .ckpt, .pt and .bin."
)


def _looks_like(prefix: bytes) -> str:
    if prefix[:2] == b"PK" or prefix[:1] == b"\x80":
        return "a pickle (.ckpt, .pt or .bin)"
    if prefix[:4] == b"GGUF":
        return "a GGUF file"
    if prefix[:1] in (b"<", b"{"):
        return "a web page or text"
    return "something else, or cut off"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ModelFileError("the file's header names a tensor twice")
    return content


def _tensor(key: str, entry: Any) -> TensorInfo:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"the file does not describe its tensor {key[:100]!r}") from error
    numbers = (*shape, start, end)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) > MAX_RANK:
        raise ModelFileError(f"the tensor {key[:100]!r} has an impossible shape or place")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelFileError(f"the tensor {key[:100]!r} has the unknown type {dtype!r:.40}")
    if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise ModelFileError(f"the tensor {key[:100]!r} takes {end - start} bytes, not what its shape needs")
    return TensorInfo(dtype, shape, start, end)


def _check_places(tensors: Mapping[str, TensorInfo], body: int) -> None:
    """Tensors must fill the body without gap or overlap."""
    position = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            raise ModelFileError(f"the tensor {key[:100]!r} does not begin where the one before it ends")
        position = tensor.end
    if position != body:
        what = "is cut off" if position > body else "goes on after its last tensor"
        raise ModelFileError(f"the file {what}: tensors need {position} bytes, {body} are there")
