"""Every form in which torch has saved, and every way a tensor may lie in a file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError
from tests.conversion.files import converted, rand, saved, tarred, zipped

BASE = rand(6, 8)


def as_they_lie() -> dict[str, Tensor]:
    """Views and copies, dense and not, of all types of numbers."""
    numbers = torch.arange(24).reshape(2, 3, 4)
    return {
        "plain": BASE, "row": BASE[2], "columns": BASE[:, 1:3], "transposed": BASE.T, "empty": rand(0, 3),
        "strided": BASE[::2, ::3], "expanded": rand(3, 1).expand(3, 5), "single": torch.tensor(2.5),
        "channels last": rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "permuted": rand(2, 3, 4).permute(2, 0, 1), "half": BASE.half().T, "bfloat": BASE.bfloat16(),
        "double": BASE.double()[1:], "int64": numbers, "int32": numbers.int(), "int16": numbers.short().mT,
        "int8": numbers.to(torch.int8), "uint8": numbers.byte(), "bool": numbers > 7,
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_all_tensors_come_out_as_they_went_in(new: bool, protocol: int, tmp_path: Path) -> None:
    tensors = as_they_lie()
    path = tmp_path / "x.pt"
    torch.save(tensors, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    found, _ = converted(path, AssetKind.LORA)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].equal(tensor), name


def test_types_of_eight_bits(tmp_path: Path) -> None:
    tensors = {"a": BASE.to(torch.float8_e4m3fn), "b": BASE.to(torch.float8_e5m2).T}
    found, _ = converted(saved(tmp_path / "x.pt", tensors), AssetKind.LORA)
    for name, tensor in tensors.items():
        assert found[name].float().equal(tensor.float())


def test_parameters_and_ordered_dictionaries(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 4)
    noted = torch.nn.Parameter(rand(3))
    noted.note = "attributes change how torch writes a parameter"  # type: ignore[attr-defined]
    content = {**dict(module.named_parameters()), "noted": noted}
    found, _ = converted(saved(tmp_path / "x.pt", content), AssetKind.LORA)
    assert found["weight"].equal(module.weight)
    assert found["noted"].equal(noted)
    found, _ = converted(saved(tmp_path / "y.pt", module.state_dict()), AssetKind.LORA)
    assert found["bias"].equal(module.bias)


class _Rebuilt:
    """A tensor as torch before 0.4 described it: without requires_grad and hooks."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __reduce__(self) -> Any:
        tensor = self._tensor
        arguments = (tensor.storage(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        return torch._utils._rebuild_tensor, arguments


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("new", [True, False])
def test_the_first_way_to_describe_a_tensor(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": _Rebuilt(BASE.T), "b": _Rebuilt(BASE[1])}, path, _use_new_zipfile_serialization=new)
    found, _ = converted(path, AssetKind.LORA)
    assert found["a"].equal(BASE.T)
    assert found["b"].equal(BASE[1])


def test_the_tar_of_the_first_versions(tmp_path: Path) -> None:
    """That it is one, torch's own reader says."""
    tensors = [BASE, BASE.T, BASE[1:3, 2], rand(5), rand(0)]
    content = {"state_dict": {f"t{number}": tensor for number, tensor in enumerate(tensors)}, "epoch": 1}
    path = tarred(tmp_path / "x.pt", content, tensors)
    theirs = torch.load(path, weights_only=False)["state_dict"]
    ours, _ = converted(path, AssetKind.LORA)
    for name, tensor in content["state_dict"].items():
        assert theirs[name].equal(tensor)
        assert ours[name].equal(tensor)


def test_descriptions_in_ascii(tmp_path: Path) -> None:
    """Protocol 0, in which torch writes no storages: a dictionary of nothing but settings."""
    path = zipped(tmp_path / "x.pt", pickle.dumps({"état": "naïve", "n": 10**30, "f": 0.5, "b": b"x"}, 0))
    with pytest.raises(ModelFileError, match="holds no weights by name"):
        converted(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([rand(2), rand(2)], "holds no dictionary of weights"),
        (rand(2), "holds no dictionary of weights"),
        ({}, "holds no weights by name"),
        ({"state_dict": {"epoch": 3}}, "holds no weights by name"),
        ({"string_to_param": {"a": rand(2), "b": rand(2)}}, "not of one word"),
        ({"string_to_param": {}}, "not of one word"),
    ],
)
def test_what_holds_no_weights_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message) as refused:
        converted(saved(tmp_path / "x.pt", content))
    assert refused.value.detail.startswith("x.pt: it ")


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"asks for torch\.nn\.modules\.linear\.Linear, which plain"):
        converted(saved(tmp_path / "x.pt", torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "a web page or text"),
        (b'{"error": "not found"}', "a web page or text"),
        (b"\x20\x00\x00\x00\x00\x00\x00\x00{}", "a safetensors file already"),
        (b"GGUF\x03\x00\x00\x00", "no file that torch saved"),
        (b"PK\x03\x04", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02K\x01.", "a pickle, but none that torch saved"),
    ],
)
def test_other_files_are_refused_by_what_they_are(start: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(start)
    with pytest.raises(ModelFileError, match=message):
        converted(path)


@pytest.mark.parametrize("new", [True, False])
def test_cut_and_altered_files_are_refused(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": rand(64, 64), "b": rand(3)}, path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    for length in (1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            converted(path, AssetKind.LORA)
    if new:  # only zips have checksums
        place = whole.index(rand(64, 64).numpy().tobytes()) + 8000
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelFileError, match="checksum of a part is wrong"):
            converted(path, AssetKind.LORA)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
