"""What the reading process may not do, asked of a process that is confined like it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cloudbrush

ATTEMPTS = {
    "open a file": "open('/etc/hostname')",
    "write a file": "open('harm', 'w')",
    "list a folder": "import os; os.listdir('.')",
    "open a socket": "socket.socket()",
    "look up a name": "socket.getaddrinfo('localhost', 80)",
    "run a command": "os.system('true')",
    "start a process": "subprocess.Popen(['true'])",
    "fork": "os.fork()",
    "import a module": "import wave",
    "load a library": "ctypes.CDLL(None)",
    "compile code": "eval('1')",
    "unpickle": "pickle.loads(b'cos\\nsystem\\n.')",
}
# What the system refuses by itself, were the rules of the interpreter got round.
BY_THE_SYSTEM = {
    "open a file": ("open('/etc/hostname')", "Too many open files"),
    "open a socket": ("socket.socket()", "Too many open files"),
    "take memory": ("bytearray(2**31)", "MemoryError"),
}
SETUP = """
import ctypes, os, pickle, resource, socket, subprocess, sys
from cloudbrush.conversion import confinement
def tell(text):
    os.write(1, text.encode())
"""


def attempt(setup: str, code: str, cwd: Path) -> str:
    """What comes of the code after the setup."""
    body = "\n    ".join(code.split("; "))
    program = f"{SETUP}\n{setup}\ntry:\n    {body}\nexcept BaseException as error:\n"
    program += "    tell(f'{type(error).__name__}: {error}')\nelse:\n    tell('done')\nos._exit(0)\n"
    root = Path(cloudbrush.__file__).parents[1]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={"PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_confined_process_may_not(what: str, tmp_path: Path) -> None:
    refused = attempt("confinement.confine(1000, 1000)", ATTEMPTS[what], tmp_path)
    assert refused.startswith("PermissionError")
    assert "is not allowed here" in refused
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", [name for name in ATTEMPTS if "fork" not in name])
def test_all_of_it_is_possible_before(what: str, tmp_path: Path) -> None:
    """Or the test above would show nothing."""
    assert attempt("", ATTEMPTS[what], tmp_path) == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="limits differ between systems")
@pytest.mark.parametrize("what", BY_THE_SYSTEM)
def test_the_system_refuses_too(what: str, tmp_path: Path) -> None:
    code, message = BY_THE_SYSTEM[what]
    assert message in attempt("confinement._limit(resource, 1000, 1000)", code, tmp_path)
