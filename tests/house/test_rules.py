"""The rules of the house that a tool can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports", "--no-logo"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_tool_has_nothing_to_say(command: tuple[str, ...]) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_control_plane_loads_nothing_heavy() -> None:
    loaded = _modules_after("import cloudbrush.wiring, cloudbrush.cli.serving")
    assert loaded.isdisjoint({"torch", "gradio", "boto3", "diffusers", "transformers", "ray"})


@pytest.mark.parametrize("command", ["serve", "txt2img", "jobs", "endpoints", "models", "worker", ""])
def test_help_answers_without_loading_anything_but_the_command_line(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    code = f"""
import sys
import tomllib
sys.argv = ["cloudbrush", *{words}]
from cloudbrush.cli.app import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""
    loaded = _modules_after(code)
    assert loaded.isdisjoint({"torch", "gradio", "fastapi", "sqlalchemy", "httpx", "numpy", "PIL"})


def test_the_readme_draws_the_tree_as_it_is() -> None:
    drawn = _tree(ROOT / "README.md")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folders = {str(parent) for line in listed.stdout.splitlines() for parent in Path(line).parents}
    shown = {folder for folder in folders if len(Path(folder).parts) <= (3 if folder[:3] == "src" else 1)}
    assert drawn == {folder for folder in shown if not folder.startswith(".")}


def _tree(readme: Path) -> set[str]:
    """The folders drawn in the first code block of the README's section "The tree", two spaces a level."""
    block = readme.read_text().split("## The tree", 1)[1].split("```", 2)[1]
    path: list[str] = []
    folders: set[str] = set()
    for line in block.splitlines():
        name = line.strip().partition(" ")[0]
        if name.endswith("/"):
            level = (len(line) - len(line.lstrip())) // 2
            path[level:] = [name.rstrip("/")]
            drawn = Path(*path)
            folders |= {str(folder) for folder in (drawn, *drawn.parents)}
    return folders - {"."}


def _modules_after(code: str) -> set[str]:
    report = "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["studio"], *extras["worker"], *extras["aws"]]
    declared = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in wanted}  # type: ignore[index]
    imported = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
    names = {"PIL": "pillow", "botocore": "boto3"}  # where the module is not called as its package
    foreign = {names.get(name, name) for name in imported - sys.stdlib_module_names - {"cloudbrush"}}
    assert foreign <= declared
