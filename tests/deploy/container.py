"""The worker started as SageMaker starts its container: the Dockerfile's program, environment and one word.

The file system around it is read-only but for a folder that is its /tmp, by a mount namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.deploy import dockerfile

START_LIMIT = 120.0  # seconds, on a busy machine
OF_THE_IMAGE = ("PATH", "PYTHONPATH")  # where things are inside it; here they are elsewhere
READ_ONLY = """
set -e
mount --bind "$1" "$1"
while read -r _ target kind _; do
  case "$kind" in proc|sysfs|cgroup*|devpts|mqueue|tracefs|debugfs) continue;; esac
  [ "$target" = "$1" ] || mount -o remount,bind,ro "$target"
done < /proc/self/mounts
shift
exec "$@"
"""


def read_only_but(folder: Path) -> list[str]:
    """Words before a command that let it write to nothing but the folder."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespace = ["unshare", *user, "--mount", "--propagation", "private"]
    return [*namespace, "sh", "-c", READ_ONLY, "sh", str(folder)]


def can_be_read_only(folder: Path) -> bool:
    """Whether this machine lets us make mount namespaces."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*read_only_but(folder), "true"], capture_output=True).returncode == 0


@dataclass
class Container:
    """One running worker."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    cache: Path

    @classmethod
    def start(cls, folder: Path, environment: dict[str, str]) -> Container:
        """Start one that may write to `folder`/tmp only; it is not there yet when this returns."""
        tmp = folder / "tmp"
        tmp.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        image = {
            name: value.replace("/tmp", str(tmp), 1) if value.startswith("/tmp") else value
            for name, value in dockerfile.environment().items()
            if name not in OF_THE_IMAGE
        }
        ours = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
        given = {
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "CLOUDBRUSH_WORKER_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        here = {"python": sys.executable, "0.0.0.0": "127.0.0.1"}
        program = [here.get(word, word) for word in dockerfile.entry_point()]
        log = folder / "worker.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*read_only_but(tmp), *program, "serve"],
                env={**ours, **image, **given, **environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        return cls(process, f"http://127.0.0.1:{port}", log, Path(image["CLOUDBRUSH_WORKER_CACHE_DIR"]))

    def until_healthy(self) -> list[int]:
        """Ask /ping as SageMaker does until it answers 200; the answers that came before."""
        before: list[int] = []
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            try:
                status = httpx.get(f"{self.url}/ping", timeout=2).status_code
            except httpx.ConnectError:
                time.sleep(0.1)  # the contract has no other way to tell
                continue
            if status == 200:
                return before
            before.append(status)
        raise AssertionError(f"the worker did not come up: {self.said()}")

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """The last of what it printed."""
        return self.log.read_text()[-4000:]
