"""The stand-in beside a moto server: boto3 unchanged, found by its own variables."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloudbrush.testing.sagemaker import SageMaker, VirtualClock
from tests.testing.sagemaker.cloud import ECHO, REGION, Cloud

START_LIMIT = 60.0  # seconds, on a busy machine


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto server that runs as long as the tests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "server.log"
    with log.open("wb") as said:
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT
        while True:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            try:
                httpx.get(f"{url}/moto-api/data.json", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)  # a process that starts has no way to tell us
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def _aws(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh account, and nothing of the developer's own."""
    httpx.post(f"{moto}/moto-api/reset", trust_env=False).raise_for_status()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def standin(_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMaker]:
    """A stand-in whose time a test moves, with the echo worker."""
    with SageMaker(ECHO, clock=VirtualClock()) as standin:
        for name, value in standin.environment.items():
            monkeypatch.setenv(name, value)
        yield standin


@pytest.fixture
def cloud(standin: SageMaker, tmp_path: Path) -> Cloud:
    """boto3's clients, a bucket, and topics whose messages go to a queue."""
    return Cloud(standin, tmp_path)
