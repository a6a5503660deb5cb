"""Reads the golden numbers beside this file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


@cache
def golden(name: str) -> Any:
    """The content of `<name>.json`."""
    return json.loads((_HERE / f"{name}.json").read_text(encoding="utf-8"))


@cache
def golden_arrays(name: str) -> dict[str, Any]:
    """The arrays of `<name>.npz`, all read."""
    import numpy as np  # keeps the text-only tests light

    with np.load(_HERE / f"{name}.npz") as arrays:
        return dict(arrays)
