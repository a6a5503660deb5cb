"""A worker loads safetensors only: nothing it can reach reads pickles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cloudbrush

ROOT = Path(cloudbrush.__file__).parent
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "pickletools",
}
CALLS = {"torch.load", "torch.jit.load", "torch.hub.load", "torch.package", "np.load", "numpy.load",
         "torch.storage._load_from_bytes"}  # fmt: skip


def reachable(start: str) -> dict[str, ast.Module]:
    """Every module of ours that one module imports, however indirectly, with its code."""
    found: dict[str, ast.Module] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        path = file_of(name)
        if name in found or path is None:
            continue
        found[name] = ast.parse(path.read_text())
        waiting += [name.rpartition(".")[0], *imported(found[name])]
    return found


def file_of(name: str) -> Path | None:
    base = ROOT.parent / name.replace(".", "/")
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def unpickling(tree: ast.Module) -> set[str]:
    """The imports and names by which code reads pickles."""
    modules = {name for name in imported(tree) if name.partition(".")[0] in MODULES or name in CALLS}
    return modules | {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & CALLS


@pytest.mark.parametrize("start", ["cloudbrush.cli.working", "cloudbrush.worker.serve", "cloudbrush.engine"])
def test_no_module_that_a_worker_reaches_reads_pickles(start: str) -> None:
    modules = reachable(start)
    assert "cloudbrush.engine.models.weights" in modules
    assert "cloudbrush.engine.networks.lora" in modules
    assert not {name for name in modules if name.startswith("cloudbrush.conversion")}
    assert {name: found for name, tree in modules.items() if (found := unpickling(tree))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import load as f\nf(x)",
        "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load(x)",
        "def f():\n    from marshal import loads",
    ],
)
def test_such_code_would_be_seen(code: str) -> None:
    assert unpickling(ast.parse(code))


def test_the_reading_of_pickles_is_seen_where_it_is() -> None:
    assert unpickling(reachable("cloudbrush.conversion.pickles")["cloudbrush.conversion.pickles"])
