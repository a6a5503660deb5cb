"""The form in which torch saved at first: a tar of storages, of tensors, and of a pickle that names them.

The layout is what torch's own reader of these files, `torch.serialization`, still reads.
"""

from __future__ import annotations

import mmap
import struct
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast

from cloudbrush.conversion import names
from cloudbrush.conversion.pickles import Machine, Named, Storage, TensorPart, check_numbers, tensor
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import DTYPE_BYTES, MAX_RANK

_MEMBERS = ("storages", "tensors", "pickle")
_MOST = 10**6  # storages, views or tensors
Places = dict[str, tuple[int, int]]


def read(data: mmap.mmap) -> tuple[Any, Places]:
    """The saved object, and where its storages lie, by key; raises `ModelFileError`, or others if damaged."""
    members = _members(data)
    storages, places = _storages(data, *members["storages"])
    tensors = dict(_tensors(data, members["tensors"][0], storages))
    data.seek(members["pickle"][0])
    return Machine(lambda told: tensors[str(told)]).run(data), places


def _members(data: mmap.mmap) -> Mapping[str, tuple[int, int]]:
    """Where the members begin and end."""
    with tarfile.open(fileobj=cast(IO[bytes], data), mode="r:") as archive:
        found = {m.name.removeprefix("./"): m for m in archive.getmembers() if m.isreg() and not m.issparse()}
    if not found.keys() >= set(_MEMBERS):
        raise ModelFileError("it is a tar, but none that torch saved")
    places = {name: (found[name].offset_data, found[name].size) for name in _MEMBERS}
    return {name: (start, start + size) for name, (start, size) in places.items()}


def _storages(data: mmap.mmap, position: int, end: int) -> tuple[dict[str, Storage], Places]:
    """All storages by key, those included that are views of others; and where the others lie."""
    storages: dict[str, Storage] = {}
    places: Places = {}
    data.seek(position)
    for _ in range(_count(data)):
        key, _, kind = Machine().run(data)
        if not isinstance(kind, Named) or kind.name not in names.STORAGES:
            raise ModelFileError("one of its storages is none of numbers")
        (count,) = struct.unpack("<q", data.read(8))
        check_numbers((count,))
        dtype, start = names.STORAGES[kind.name], data.tell()
        places[str(key)] = start, start + count * DTYPE_BYTES[dtype]
        if places[str(key)][1] > end:
            raise ModelFileError("one of its storages is cut off")
        storages[str(key)] = Storage(str(key), dtype, count, 0, count)
        data.seek(places[str(key)][1])
    for key, root, offset, count in Machine().run(data):
        base = storages[str(root)]
        check_numbers((offset, count))
        if offset + count > base.count:
            raise ModelFileError("a view of a storage reaches behind its end")
        storages[str(key)] = Storage(base.key, base.dtype, base.of, offset, count)
    return storages, places


def _tensors(
    data: mmap.mmap, position: int, storages: Mapping[str, Storage]
) -> Iterator[tuple[str, TensorPart]]:
    data.seek(position)
    for _ in range(_count(data)):
        key, storage, _ = Machine().run(data)
        (rank,) = struct.unpack("<i4x", data.read(8))
        if not 0 <= rank <= MAX_RANK:
            raise ModelFileError("a tensor of it has an impossible shape")
        numbers = struct.unpack(f"<{2 * rank + 1}q", data.read(8 * (2 * rank + 1)))
        base = storages[str(storage)]
        yield str(key), tensor(base, base.dtype, numbers[-1], numbers[:rank], numbers[rank:-1])


def _count(data: mmap.mmap) -> int:
    count = Machine().run(data)
    if type(count) is not int or not 0 <= count <= _MOST:
        raise ModelFileError("it claims an impossible number of tensors")
    return count
