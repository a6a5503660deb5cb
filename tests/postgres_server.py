"""A PostgreSQL server of the tests' own, made from the machine's binaries and gone with them."""

from __future__ import annotations

import glob
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

START_LIMIT = 60  # seconds, on a busy machine
FAST = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB")  # nothing here outlives the tests
MISSING = "there is no PostgreSQL server here: run tests/stores/install_postgres.sh as root"


def binaries() -> Path | None:
    """The folder of initdb and postgres, or None."""
    found = shutil.which("initdb") or max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=None)
    return Path(found).resolve().parent if found else None


@contextmanager
def running() -> Iterator[str]:
    """The URL of a server's first database; the server listens on this machine, for its password, only."""
    programs = binaries()
    assert programs is not None, MISSING
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home, password = Path(tempfile.mkdtemp(prefix="cloudbrush-postgres-")), secrets.token_hex(16)
    try:
        (home / "password").write_text(password)
        someone = _someone(home)
        access = ("-U", "tests", "-A", "scram-sha-256", "--pwfile", home / "password")
        _run(programs / "initdb", "-D", home / "data", "-E", "UTF8", "--no-sync", *access, **someone)
        settings = [f"-c{setting}" for setting in FAST]
        options = " ".join([f"-h127.0.0.1 -p{port} -k{home}", *settings])
        control = (programs / "pg_ctl", "-D", home / "data", "-w", "-t", START_LIMIT)
        _run(*control, "-l", home / "log", "-o", options, "start", **someone)
        try:
            yield f"postgresql://tests:{password}@127.0.0.1:{port}/postgres"
        finally:
            _run(*control, "-m", "immediate", "stop", **someone)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def new_database(server: str) -> str:
    """The URL of something new and empty: a schema, which is made at once where a database takes a while."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{server}?options=-csearch_path%3D{name}"


def _someone(home: Path) -> dict[str, Any]:
    """Whom the server runs as: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    try:
        person = pwd.getpwnam("postgres")
    except KeyError:
        person = pwd.getpwnam("nobody")
    for place in (home, home / "password"):
        os.chown(place, person.pw_uid, person.pw_gid)
    return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": [], "cwd": home}


def _run(*command: object, **options: Any) -> None:
    # Into a file, not a pipe: the server inherits it and would hold a pipe open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, **options
        )
        said.seek(0)
        assert done.returncode == 0, said.read().decode()[-2000:]
