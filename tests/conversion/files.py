"""Old model files for tests: as torch writes them, and pickles put together byte by byte."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cloudbrush.conversion.converting import convert
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.model_file import ModelInfo


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + 1000 * seed))


def converted(source: Path, kind: AssetKind | None = None) -> tuple[dict[str, Tensor], ModelInfo]:
    """The tensors that a file becomes, and what it is."""
    target = source.with_name(f"{source.stem}.new.safetensors")
    info = convert(source, target, kind, lambda done, total: None)
    return load_file(target), info


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def zipped(path: Path, pickled: bytes, **members: bytes) -> Path:
    """What torch writes since 1.6, with a description of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(f"archive/data/{name.lstrip('_')}", content)
        archive.writestr("archive/version", "3\n")
    return path


def streamed(path: Path, pickled: bytes) -> Path:
    """What torch wrote from 0.1.12 to 1.5, with a description of one's own and no storages."""
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    path.write_bytes(b"".join([*parts, pickled, pickle.dumps([], 2)]))
    return path


class _Identified(pickle.Pickler):
    """Writes tensors as persistent ids, by their place in a list."""

    def __init__(self, file: Any, tensors: list[Tensor]) -> None:
        super().__init__(file, 2)
        self._tensors = tensors

    def persistent_id(self, value: Any) -> Any:
        return next((number for number, one in enumerate(self._tensors) if one is value), None)


def tarred(path: Path, content: Any, tensors: list[Tensor]) -> Path:
    """What torch wrote before 0.1.12; all tensors are views of one storage each, of single precision."""
    roots = list({tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}.values())
    keys = {tensor.untyped_storage().data_ptr(): 100 + number for number, tensor in enumerate(roots)}
    storages = io.BytesIO()
    storages.write(pickle.dumps(len(roots), 2))
    for root in roots:
        numbers = bytes(root.untyped_storage())
        storages.write(pickle.dumps((keys[root.untyped_storage().data_ptr()], "cpu", torch.FloatStorage), 2))
        storages.write(struct.pack("<q", len(numbers) // 4) + numbers)
    storages.write(pickle.dumps([], 2))  # views of storages
    told = io.BytesIO()
    told.write(pickle.dumps(len(tensors), 2))
    for number, tensor in enumerate(tensors):
        told.write(pickle.dumps((number, keys[tensor.untyped_storage().data_ptr()], torch.FloatTensor), 2))
        numbers = [tensor.ndim, *tensor.shape, *tensor.stride(), tensor.storage_offset()]
        told.write(struct.pack(f"<{len(numbers)}q", *numbers))
    described = io.BytesIO()
    _Identified(described, tensors).dump(content)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, member in (("storages", storages), ("tensors", told), ("pickle", described)):
            entry = tarfile.TarInfo(name)
            entry.size = len(member.getvalue())
            archive.addfile(entry, io.BytesIO(member.getvalue()))
    return path
