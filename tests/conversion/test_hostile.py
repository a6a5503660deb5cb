"""Files made to do harm: each is refused in words, and nothing of what it asks for happens."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudbrush.conversion import pickles
from cloudbrush.conversion.pickles import Machine
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError
from tests.conversion.files import converted, rand, saved, streamed, zipped


def short(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Opcodes that would call a function with these arguments, themselves opcodes."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


PROTO, STOP = b"\x80\x02", b"."
CALLS = {
    "os.system": ("os", "system"), "posix.system": ("posix", "system"), "nt.system": ("nt", "system"),
    "subprocess.Popen": ("subprocess", "Popen"), "builtins.eval": ("builtins", "eval"),
    "__builtin__.exec": ("__builtin__", "exec"), "builtins.getattr": ("builtins", "getattr"),
    "builtins.__import__": ("builtins", "__import__"), "builtins.open": ("builtins", "open"),
    "importlib.import_module": ("importlib", "import_module"), "runpy._run_code": ("runpy", "_run_code"),
    "pickle.loads": ("pickle", "loads"), "torch.load": ("torch", "load"),
    "torch.storage._load_from_bytes": ("torch.storage", "_load_from_bytes"),
    "torch.hub.load": ("torch.hub", "load"), "torch.jit.load": ("torch.jit", "load"),
    "torch._utils._rebuild_device_tensor_from_numpy": ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    "functools.partial": ("functools", "partial"), "operator.attrgetter": ("operator", "attrgetter"),
    "types.FunctionType": ("types", "FunctionType"), "ctypes.CDLL": ("ctypes", "CDLL"),
    "collections.OrderedDict.fromkeys": ("collections", "OrderedDict.fromkeys"),
    "numpy.load": ("numpy", "load"), "webbrowser.open": ("webbrowser", "open"),
}  # fmt: skip


@pytest.mark.parametrize("form", [zipped, streamed])
def test_a_call_is_refused_by_its_name_and_never_made(form: Any, tmp_path: Path) -> None:
    """torch's own reader, told to trust the file, makes it."""
    marker = tmp_path / "harm"
    path = form(tmp_path / "x.ckpt", PROTO + call("os", "system", short(f"touch {marker}")) + STOP)
    with pytest.raises(ModelFileError, match=r"x\.ckpt: it asks for os\.system, which plain") as refused:
        converted(path)
    assert not marker.exists()
    assert "nothing of it was run" in refused.value.detail
    assert "attack" in str(refused.value.hint)
    assert [file.name for file in tmp_path.iterdir()] == ["x.ckpt"]
    torch.load(path, weights_only=False)
    assert marker.exists()


def machine(pickled: bytes) -> Any:
    return Machine().run(io.BytesIO(pickled))


@pytest.mark.parametrize("name", CALLS)
def test_names_of_functions_are_refused_however_they_are_written(name: str) -> None:
    module, function = CALLS[name]
    by_stack = b"\x80\x04" + short(module) + short(function) + b"\x93(" + short("x") + b"tR."
    by_instance = b"(" + short("x") + f"i{module}\n{function}\n.".encode()
    by_object = b"(" + f"c{module}\n{function}\n".encode() + short("x") + b"o."
    for pickled in (PROTO + call(module, function, short("x")) + STOP, by_stack, by_instance, by_object):
        with pytest.raises(ModelFileError, match="asks for") as refused:
            machine(pickled)
        assert name in refused.value.detail


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (call("collections", "OrderedDict") + b"(tR.", "calls what is no name"),
        (call("torch._utils", "_rebuild_tensor_v2", short("x"), b"K\x00", b")", b")", b"\x89", b"}") + b".",
         "a tensor of it has no storage"),
        (b"cbuiltins\nstr\n(K\x01tR(tR.", "calls what is no name"),
        (b"K\x01(tR.", "calls what is no name"),
        (b"\x82\x01.", "extension registry"),
        (b"}\x97.", "uses NEXT_BUFFER, which no model needs"),
        (b"Px\n.", "uses PERSID, which no model needs"),
        (short("storage") + b"Q.", "no storage of numbers"),
        (b"(" + short("storage") + b"cbuiltins\nint\n" + short("0") + short("cpu") + b"K\x01tQ.",
         "no storage of numbers"),
        (b"(" + short("storage") + b"ctorch\nFloatStorage\n" + short("0") + short("cpu") + b"J" + b"\xff" * 4
         + b"tQ.", "impossible shape or place"),
    ],
    ids=["nested calls", "tensor of text", "call of a result", "call of a number", "extension", "buffer",
         "text id", "id of text", "storage of int", "negative storage"],
)  # fmt: skip
def test_tricks_with_opcodes_are_refused(pickled: bytes, message: str | None) -> None:
    with pytest.raises((ModelFileError, ValueError), match=message):
        machine(PROTO + pickled)


def test_a_state_is_given_to_nothing_real() -> None:
    """BUILD may set attributes, or call __setstate__; here it changes what stands for the object only."""
    before = dict(vars(pickles.Named))
    found = machine(PROTO + b"cbuiltins\nobject\n)R}(" + short("__class__") + b"K\x01ub.")
    assert (found.by, found.state) == ("builtins.object", {"__class__": 1})
    assert machine(PROTO + b"cbuiltins\nobject\n}(" + short("name") + b"K\x01ub.").name == "builtins.object"
    assert dict(vars(pickles.Named)) == before


def storage(key: str = "0", count: int = 4) -> bytes:
    return (
        b"("
        + short("storage")
        + b"ctorch\nFloatStorage\n"
        + short(key)
        + short("cpu")
        + number(count)
        + b"tQ"
    )


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def described(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4) -> bytes:
    """The opcodes of a tensor."""
    sides, steps = (b"(" + b"".join(map(number, side)) + b"t" for side in (shape, stride))
    told = (storage(count=count), number(offset), sides, steps, b"\x89", b"}")
    return call("torch._utils", "_rebuild_tensor_v2", *told)


def dictionary(*tensors: bytes) -> bytes:
    pairs = b"".join(short(f"lora_unet_{n}.diff") + tensor for n, tensor in enumerate(tensors))
    return PROTO + b"}(" + pairs + b"u."


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (described((4,), (1,)), None),
        (described((2**20, 2**20), (0, 0)), "more than 2 times the space"),
        (described((2**40,), (1,)), "more than 2 times the space"),
        (described((5,), (1,)), "behind the end of its storage"),
        (described((2,), (2**40,)), "behind the end of its storage"),
        (described((1,), (1,), offset=4), "behind the end of its storage"),
        (described((4,), (-1,), offset=3), "impossible shape or place"),
        (described((4,), (1,), offset=-1), "impossible shape or place"),
        (described((1,) * 9, (1,) * 9), "impossible shape"),
        (described((2, 2), (1,)), "impossible shape"),
        (described((4,), (1,), count=2**40), "has not the length it should have"),
        (described((2**62,), (0,)), "impossible shape or place"),
    ],
)
def test_tensors_that_reach_out_or_swell_are_refused(
    tensor: bytes, message: str | None, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "x.pt", dictionary(tensor), _0=bytes(16))
    if message is None:
        assert converted(path)[0]["lora_unet_0.diff"].equal(torch.zeros(4))
    else:
        with pytest.raises(ModelFileError, match=message):
            converted(path)


def test_many_tensors_of_one_storage_may_not_swell_the_file(tmp_path: Path) -> None:
    """Each is as large as the storage, which takes 32 MB."""
    size = 2**23
    tensor = described((size,), (1,), count=size)
    path = zipped(tmp_path / "x.pt", dictionary(*[tensor] * 3), _0=bytes(4 * size))
    with pytest.raises(ModelFileError, match="more than 2 times the space"):
        converted(path)


def test_one_storage_described_in_two_ways_is_refused(tmp_path: Path) -> None:
    pickled = dictionary(described((4,), (1,)), described((2,), (1,), count=2))
    with pytest.raises(ModelFileError, match="one storage in two ways"):
        converted(zipped(tmp_path / "x.pt", pickled, _0=bytes(16)))


@pytest.mark.parametrize("compressed", ["archive/data.pkl", "archive/data/0"])
def test_zips_that_swell_are_refused(compressed: str, tmp_path: Path) -> None:
    """A bomb: a gigabyte of zeros takes a megabyte. torch stores, it never compresses."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("archive/data.pkl", dictionary(described((4,), (1,)))),
                              ("archive/data/0", bytes(16))):  # fmt: skip
            kind = zipfile.ZIP_DEFLATED if name == compressed else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    with pytest.raises(ModelFileError, match="a compressed zip, which torch does not write"):
        converted(path)


def test_names_in_zips_lead_nowhere(tmp_path: Path) -> None:
    """Members are never unpacked, so that a name with `..` is only a name."""
    good = dictionary(described((4,), (1,)))
    inner = tmp_path / "inner"
    inner.mkdir()
    with zipfile.ZipFile(inner / "x.pt", "w") as archive:
        archive.writestr("archive/data.pkl", good)
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("../../escaped", b"x")
        archive.writestr("/tmp/escaped", b"x")
    assert converted(inner / "x.pt")[0]["lora_unet_0.diff"].shape == (4,)
    assert not list(tmp_path.rglob("escaped*"))
    key = good.replace(short("0"), short("../../../etc/passwd"))
    with pytest.raises(ModelFileError, match="damaged"):
        converted(zipped(inner / "y.pt", key, _0=bytes(16)))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    """Readers differ in which of them they take: one would be checked and the other loaded."""
    path = zipped(tmp_path / "x.pt", dictionary(described((4,), (1,))), _0=bytes(16))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data.pkl", PROTO + call("os", "system", short("x")) + STOP)
    with pytest.raises(ModelFileError, match="two members of one name"):
        converted(path)


def test_a_description_that_eats_memory_is_stopped(tmp_path: Path) -> None:
    """A list of a hundred thousand pairs, each of them the same list as all others: 10^10 of them."""
    pairs = b"(" + b"K\x01K\x02" * 50_000 + b"lq\x000"
    swelling = b"ccollections\nOrderedDict\n((" + b"h\x00" * 100_000 + b"ltR."
    with pytest.raises(ModelFileError):
        converted(zipped(tmp_path / "x.pt", PROTO + pairs + swelling))
    claimed = PROTO + b"\x8d" + struct.pack("<Q", 2**60) + b"x."
    with pytest.raises(ModelFileError, match="damaged"):
        converted(zipped(tmp_path / "y.pt", claimed))


def test_a_description_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    with pytest.raises(ModelFileError, match="more than 1000 steps"):
        machine(PROTO + b"N0" * 1000 + b"N.")


def test_deep_nesting_is_no_trouble(tmp_path: Path) -> None:
    deep = PROTO + b"]" * 200_000 + b"a" * 199_999 + b"."
    with pytest.raises(ModelFileError, match="holds no dictionary of weights"):
        converted(zipped(tmp_path / "x.pt", deep))


def test_what_a_message_shows_of_a_file_is_harmless(tmp_path: Path) -> None:
    name = "\x1b[31mred\n" + "x" * 10_000
    with pytest.raises(ModelFileError) as refused:
        machine(b"\x80\x04" + short("os") + short(name) + b"\x93.")
    assert refused.value.detail.isascii()
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 300


def test_altered_files_end_in_a_model_or_a_refusal(tmp_path: Path) -> None:
    """Any byte of the description and of the zip's directory changed."""
    path = saved(tmp_path / "x.pt", {"a": rand(2, 3), "b": {"c": rand(4).half()}})
    whole = path.read_bytes()
    places = [*range(60, 500, 40), *range(len(whole) - 300, len(whole), 60)]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(ModelFileError):
            converted(path, AssetKind.LORA)
        (tmp_path / "x.new.safetensors").unlink(missing_ok=True)


def test_pickles_of_plain_python_are_understood() -> None:
    """What stands beside weights is read as Python would: the opcodes mean the same."""
    content = {"a": [1, 2.5, None, True, "é", (1, (2, 3, 4), ())], "b": {"c": [{}, []]}, "n": -(10**12)}
    content["again"] = content["a"]
    for protocol in range(6):
        assert machine(pickle.dumps(content, protocol)) == content
    assert machine(pickle.dumps(b"y", 3)) == b"y"
