"""Pickles read as data: an interpreter of their opcodes that looks nothing up, calls nothing, builds nothing.

What a pickle would have Python call becomes a `Made`, except what stands for tensors, storages and
dictionaries, by their names. The opcodes are those of the standard library's `pickletools`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cloudbrush.conversion import names
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import MAX_RANK

MAX_OPCODES = 5_000_000  # a checkpoint with its optimizer takes a tenth


@dataclass(frozen=True, eq=False, slots=True)
class Named:
    """A global of the pickle, by name only."""

    name: str


@dataclass(eq=False, slots=True)
class Made:
    """What some global would have made; never made."""

    by: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Numbers that lie elsewhere in the file; `count`, `offset` and `of` in elements."""

    key: str
    dtype: str  # as safetensors call it
    of: int  # all there are under the key
    offset: int  # where this view of them begins
    count: int


@dataclass(frozen=True, eq=False, slots=True)
class TensorPart:
    """A tensor as a view of a storage, in elements of its own type."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Machine:
    """Reads one pickle; `storages` are those it told of, by key.

    `stored` says what a persistent id stands for; usually it is a storage.
    """

    def __init__(self, stored: Callable[[Any], Any] | None = None) -> None:
        self.storages: dict[str, Storage] = {}
        self._stored = stored or self._storage
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        """The object of the pickle that begins where `file` stands; it stands behind it afterwards.

        Raises `ModelFileError` for what no model needs; `ValueError`, `IndexError` or such for broken ones.
        """
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number > MAX_OPCODES:
                raise ModelFileError(f"its description takes more than {MAX_OPCODES} steps")
            if opcode.name == "STOP":
                return self._stack.pop()
            act = _ACTS.get(opcode.name)
            if act is None:
                raise ModelFileError(f"its description uses {opcode.name}, which no model needs")
            act(self, argument)
        raise ValueError("no end")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        found, self._stack = self._stack, self._marked.pop()
        return found

    def pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def drop(self, _: Any) -> None:
        self.since_mark()

    def put(self, place: int | None) -> None:
        self._memo[len(self._memo) if place is None else place] = self._stack[-1]

    def get(self, place: int) -> None:
        self.push(self._memo[place])

    def dup(self, _: Any) -> None:
        self.push(self._stack[-1])

    def add(self, values: list[Any]) -> None:
        """Put values, or keys and values by turns, into the container on the stack."""
        target = self._stack[-1]
        if isinstance(target, dict):
            pairs = zip(values[::2], values[1::2], strict=True)
            target.update((key, value) for key, value in pairs if isinstance(key, _KEYS))
        elif isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Made):
            raise ValueError("no container")

    def push_dict(self, values: list[Any]) -> None:
        """Push the dictionary of keys and values by turns."""
        self.push({})
        self.add(values)

    def last(self, count: int) -> list[Any]:
        """Take the last values."""
        taken = [self._stack.pop() for _ in range(count)]
        return taken[::-1]

    def name(self, module: Any, name: Any) -> None:
        names.check(f"{module}.{name}")
        self.push(Named(f"{module}.{name}"))

    def call(self, function: Any, arguments: Any) -> None:
        """Push what stands for the result."""
        if not isinstance(function, Named) or not isinstance(arguments, tuple | list):
            raise ModelFileError("it calls what is no name")
        if function.name in names.TENSORS:
            self.push(_tensor(function.name.rpartition("_")[2], tuple(arguments)))
        elif function.name in names.DICTIONARIES:
            pairs = arguments[0] if arguments and isinstance(arguments[0], list) else ()
            self.push_dict([value for key, value in pairs for value in (key, value)])
        elif function.name == names.SIZE:
            self.push(tuple(arguments[0][: MAX_RANK + 1]))
        else:
            self.push(Made(function.name, tuple(arguments)))

    def call_list(self, values: list[Any]) -> None:
        """Push what stands for the result of the first of these, called with the others."""
        self.call(values[0], values[1:])

    def instance(self, told: str) -> None:
        arguments = self.since_mark()
        self.name(*told.split(" ", 1))
        self.call(self._stack.pop(), arguments)

    def build(self, _: Any) -> None:
        """Give a state to the object on the stack; what stands for none keeps it unread."""
        state = self._stack.pop()
        if isinstance(self._stack[-1], Made):
            self._stack[-1].state = state

    def persistent(self, _: Any) -> None:
        """A persistent id: what torch writes in place of what it saves elsewhere."""
        self.push(self._stored(self._stack.pop()))

    def _storage(self, told: Any) -> Any:
        if isinstance(told, tuple) and told[:1] == ("module",):  # a class, with its source code behind it
            return told[1]
        storage = _storage(told)
        base = self.storages.setdefault(storage.key, storage)
        if (base.dtype, base.of) != (storage.dtype, storage.of):
            raise ModelFileError("it describes one storage in two ways")
        return storage


def _storage(told: Any) -> Storage:
    what, kind, key, _, count, *view = told
    if what != "storage" or not isinstance(kind, Named) or kind.name not in names.STORAGES:
        raise ModelFileError("it refers to what is no storage of numbers")
    offset, shown = view[0][1:] if view and view[0] else (0, count)
    check_numbers((count, offset, shown))
    if offset + shown > count:
        raise ModelFileError("a view of a storage reaches behind its end")
    return Storage(str(key), names.STORAGES[kind.name], count, offset, shown)


def _tensor(version: str, arguments: tuple[Any, ...]) -> TensorPart:
    if version in ("parameter", "state"):  # a parameter, and one with attributes
        part = arguments[0]
        if not isinstance(part, TensorPart):
            raise ModelFileError("a parameter of it is no tensor")
        return part
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise ModelFileError("a tensor of it has no storage")
    dtype = storage.dtype
    if version == "v3":
        dtype = names.DTYPES[arguments[6].name.removeprefix("torch.")]
    return tensor(storage, dtype, offset, shape, stride)


def tensor(storage: Storage, dtype: str, offset: Any, shape: Any, stride: Any) -> TensorPart:
    """A tensor of what a file tells about it; raises `ModelFileError` for what cannot be."""
    check_numbers((offset, *shape, *stride))
    if len(shape) != len(stride) or len(shape) > MAX_RANK:
        raise ModelFileError("a tensor of it has an impossible shape")
    return TensorPart(storage, dtype, offset, tuple(shape), tuple(stride))


def check_numbers(numbers: tuple[Any, ...]) -> None:
    """Raise `ModelFileError` unless all are counts that a file can have."""
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ModelFileError("a tensor of it has an impossible shape or place")


def _refuse_code(machine: Machine, argument: Any) -> None:
    raise ModelFileError("it uses Python's extension registry, which no model needs")


_KEYS = (str, int, float, bytes, type(None), Named, Made)
_Act = Callable[[Machine, Any], None]
_CONSTANTS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES"
    " BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT"
)
_ACTS: Mapping[str, _Act] = {
    **dict.fromkeys(_CONSTANTS.split(), Machine.push),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.put),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _refuse_code),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    **dict.fromkeys(("APPENDS", "SETITEMS", "ADDITEMS"), lambda m, _: m.add(m.since_mark())),
    "APPEND": lambda m, _: m.add(m.last(1)),
    "SETITEM": lambda m, _: m.add(m.last(2)),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": Machine.drop,
    "DUP": Machine.dup,
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.push(tuple(m.last(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.last(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.last(3))),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_SET": lambda m, _: m.push([]),  # as a list: what is in sets is of no use to us
    "FROZENSET": lambda m, _: m.push(m.since_mark()),
    "LIST": lambda m, _: m.push(m.since_mark()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: m.push_dict(m.since_mark()),
    "GLOBAL": lambda m, told: m.name(*told.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.last(2)),
    "REDUCE": lambda m, _: m.call(*m.last(2)),
    "NEWOBJ": lambda m, _: m.call(*m.last(2)),
    "NEWOBJ_EX": lambda m, _: m.call(*m.last(3)[:2]),
    "OBJ": lambda m, _: m.call_list(m.since_mark()),
    "INST": Machine.instance,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent,
}
