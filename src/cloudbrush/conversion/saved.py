"""The forms in which torch saves: a zip of a pickle and storages; before 1.6 pickles, then storages.

Before 0.1.12 it was a tar: see `tars`.
"""

from __future__ import annotations

import io
import mmap
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

from cloudbrush.conversion import tars
from cloudbrush.conversion.pickles import Machine, Storage
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import DTYPE_BYTES

MAX_PICKLE = 64 * 2**20  # bytes; that of a checkpoint with its optimizer takes one or two
_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the old form, followed by its version
_VERSION = 1001
_LOCAL_HEADER = 30  # bytes before name and extra field of a zip's member
_BLOCK = 2**24  # bytes summed at once
_DAMAGED = "Fetch it anew: it seems to be damaged."


@dataclass(frozen=True)
class Saved:
    """The object of a file, and where the bytes of its storages begin and end in the file, by key."""

    content: Any
    places: Mapping[str, tuple[int, int]]


def read(data: mmap.mmap) -> Saved:
    """What torch saved; raises `ModelFileError`, and `ValueError` or such for what is damaged."""
    start = data[:512]
    if start[:4] == b"PK\x03\x04":
        return _read_zip(data)
    if start[257:262] == b"ustar":
        return Saved(*tars.read(data))
    if start[8:9] == b"{":
        raise ModelFileError("it is a safetensors file already", hint="Rename it to end in .safetensors.")
    if start[:1] in (b"<", b"{"):
        raise ModelFileError("it is a web page or text", hint="Fetch the model itself.")
    if start[:1] != b"\x80":
        raise ModelFileError("it is no file that torch saved")
    return _read_stream(data)


def _read_zip(data: mmap.mmap) -> Saved:
    with zipfile.ZipFile(cast(IO[bytes], data)) as archive:  # a map reads and seeks like a file
        members = archive.infolist()
    by_name = {member.filename: member for member in members}
    if len(by_name) < len(members):
        raise ModelFileError("it is a zip with two members of one name")
    roots = [
        name.removesuffix("data.pkl")
        for name in by_name
        if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise ModelFileError("it is a zip, but none that torch saved")
    (root,) = roots
    order = by_name.get(f"{root}byteorder")
    if order and data[slice(*_place(data, order))] != b"little":
        raise ModelFileError("its numbers are not in little-endian order, which is not read")
    start, end = _place(data, by_name[f"{root}data.pkl"])
    if end - start > MAX_PICKLE:
        raise ModelFileError(f"its description has {end - start} bytes; {MAX_PICKLE} are allowed")
    machine = Machine()
    content = machine.run(io.BytesIO(data[start:end]))
    places = {}
    for key, storage in machine.storages.items():
        places[key] = _place(data, by_name[f"{root}data/{key}"])
        _check_length(storage, places[key])
    return Saved(content, places)


def _place(data: mmap.mmap, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a member lie; torch never compresses, so that nothing can swell."""
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ModelFileError("it is a compressed zip, which torch does not write")
    header = data[member.header_offset : member.header_offset + _LOCAL_HEADER]
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise ModelFileError("it is a zip with a member that is not where it should be", hint=_DAMAGED)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = member.header_offset + _LOCAL_HEADER + name + extra
    end = start + member.file_size
    if end > len(data):
        raise ModelFileError("it is cut off", hint=_DAMAGED)
    if _checksum(data, start, end) != member.CRC:
        raise ModelFileError("the checksum of a part is wrong", hint=_DAMAGED)
    return start, end


def _checksum(data: mmap.mmap, start: int, end: int) -> int:
    total = 0
    with memoryview(data) as view:
        for at in range(start, end, _BLOCK):
            total = zlib.crc32(view[at : min(at + _BLOCK, end)], total)
    return total


def _read_stream(data: mmap.mmap) -> Saved:
    data.seek(0)
    if Machine().run(data) != _MAGIC:
        raise ModelFileError("it is a pickle, but none that torch saved")
    if Machine().run(data) != _VERSION:
        raise ModelFileError("it is of a version of torch that is not known")
    Machine().run(data)  # about the machine that saved it
    machine = Machine()
    content = machine.run(data)
    keys = Machine().run(data)
    places: dict[str, tuple[int, int]] = {}
    position = data.tell()
    for key in keys:
        storage = machine.storages[key]
        start = position + 8
        if int.from_bytes(data[position:start], "little") != storage.of or key in places:
            raise ModelFileError("a storage has not the length it should have", hint=_DAMAGED)
        position = start + storage.of * DTYPE_BYTES[storage.dtype]
        places[key] = start, position
    if position > len(data):
        raise ModelFileError("it is cut off", hint=_DAMAGED)
    if missing := machine.storages.keys() - places.keys():
        raise ModelFileError(f"{len(missing)} of its storages are missing", hint=_DAMAGED)
    return Saved(content, places)


def _check_length(storage: Storage, place: tuple[int, int]) -> None:
    start, end = place
    if end - start < storage.of * DTYPE_BYTES[storage.dtype]:
        raise ModelFileError("a storage has not the length it should have", hint=_DAMAGED)
