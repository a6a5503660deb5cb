"""Pickles read as data: no opcode, and no order of them, does anything."""

from __future__ import annotations

import io
import pickle
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.conversion import pickles
from cloudbrush.conversion.pickles import Machine
from cloudbrush.domain.errors import ModelFileError
from tests.conversion.files import PROTO, STOP, call, short

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


def test_a_description_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    with pytest.raises(ModelFileError, match="more than 1000 steps"):
        machine(PROTO + b"N0" * 1000 + b"N.")


def test_what_a_message_shows_of_a_file_is_harmless() -> None:
    name = "\x1b[31mred\n" + "x" * 10_000
    with pytest.raises(ModelFileError) as refused:
        machine(b"\x80\x04" + short("os") + short(name) + b"\x93.")
    assert refused.value.detail.isascii()
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 300


HEARD: list[str] = []  # what the interpreter did while it listened
LISTENING: list[bool] = []
HARM = (
    "import",
    "exec",
    "compile",
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "pickle.",
    "ctypes.",
    "marshal.",
)


@pytest.fixture(scope="module")
def listener() -> None:
    """An audit hook, which stays for good; it listens while told to."""
    sys.addaudithook(lambda event, _: HEARD.append(event) if LISTENING and event.startswith(HARM) else None)


@st.composite
def opcodes(draw: Any) -> bytes:
    """Opcodes in any order, with arguments of their own kind; names of functions among them."""
    module, name = CALLS[draw(st.sampled_from(sorted(CALLS)))]
    words = [short("x"), short(module), short(name), b"K\x01", b"J\xff\xff\xff\xff", b"}", b"]", b")", b"N",
             b"h\x00", b"q\x00", b"cbuiltins\nset\n", f"c{module}\n{name}\n".encode(),
             b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
             b"ccollections\nOrderedDict\n"]  # fmt: skip
    acts = [bytes([code]) for code in b"(0122RQbtuesado\x81\x85\x86\x87\x88\x89\x90\x91\x92\x93\x94"]
    return PROTO + b"".join(draw(st.lists(st.sampled_from([*words, *acts]), max_size=40))) + b"."


@given(opcodes())
def test_no_sequence_of_opcodes_does_anything(listener: None, pickled: bytes) -> None:
    LISTENING.append(True)
    try:
        with suppress(Exception):  # refused or broken; that nothing happened is what counts
            machine(pickled)
    finally:
        LISTENING.clear()
    assert HEARD == []


def test_the_listener_hears_harm(listener: None) -> None:
    LISTENING.append(True)
    with suppress(Exception):
        pickle.loads(PROTO + call("os", "getcwd") + STOP)
    LISTENING.clear()
    assert "pickle.find_class" in HEARD
    HEARD.clear()


def test_pickles_of_plain_python_are_understood() -> None:
    """What stands beside weights is read as Python would: the opcodes mean the same."""
    content = {"a": [1, 2.5, None, True, "é", (1, (2, 3, 4), ())], "b": {"c": [{}, []]}, "n": -(10**12)}
    content["again"] = content["a"]
    for protocol in range(6):
        assert machine(pickle.dumps(content, protocol)) == content
    assert machine(pickle.dumps(b"y", 3)) == b"y"
