"""The names a pickle may hold. Even these are never looked up; any other is an attack, or no plain model."""

from __future__ import annotations

from collections.abc import Mapping

from cloudbrush.domain.errors import ModelFileError

DTYPES: Mapping[str, str] = {  # torch's name -> that of safetensors
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}  # fmt: skip
STORAGES: Mapping[str, str] = {  # torch's classes of storages -> what they hold
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL", "torch.UntypedStorage": "U8", "torch.storage.UntypedStorage": "U8",
}  # fmt: skip
TENSORS = frozenset(
    f"torch._utils._rebuild_{what}"
    for what in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
)
DICTIONARIES = frozenset({"collections.OrderedDict", "collections.defaultdict"})
SIZE = "torch.Size"
ARRAYS = frozenset(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
PARAMETERS = "torch.nn.modules.container.ParameterDict"  # around the vectors of some textual inversions

# What stands beside weights in real files. It stays unread.
_BYSTANDERS = frozenset(
    {
        *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
        *(f"{module}.{kind}" for module in ("builtins", "__builtin__") for kind in
          ("bool", "bytes", "dict", "float", "int", "list", "long", "object", "set", "str", "tuple")),
        *(f"pathlib.{kind}" for kind in ("Path", "PosixPath", "PurePosixPath", "WindowsPath")),
        *ARRAYS, "numpy.ndarray", "numpy.dtype", "_codecs.encode", "datetime.datetime", "collections.deque",
        "torch.device", "typing.Any", "argparse.Namespace", "collections.Counter",
        *(f"torch.{kind}Tensor" for kind in
          ("Double", "Float", "Half", "Long", "Int", "Short", "Char", "Byte")),
    }
)  # fmt: skip
_BYSTANDING_PACKAGES = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.")
_KNOWN = (
    frozenset(STORAGES) | TENSORS | DICTIONARIES | _BYSTANDERS | {SIZE, PARAMETERS}
    | {f"torch.{dtype}" for dtype in DTYPES}
)  # fmt: skip
SHOWN = 100  # characters of a name from a file


def check(name: str) -> None:
    """Raise `ModelFileError` unless a pickle may hold this name."""
    if name in _KNOWN or name.startswith(_BYSTANDING_PACKAGES):
        return
    raise ModelFileError(
        f"it asks for {shown(name)}, which plain weights do not need; nothing of it was run",
        hint="It may be an attack, or a program beside its weights: look for a .safetensors file instead.",
    )


def shown(name: str) -> str:
    """A name from a file as a message may print it."""
    return ascii(name[:SHOWN])[1:-1]
