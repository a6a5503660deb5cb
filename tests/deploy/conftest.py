"""An AWS account that is a moto server on this machine; boto3 finds it by its own variables."""

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

from cloudbrush.aws import stack
from cloudbrush.aws.account import Account

START_LIMIT = 60.0  # seconds, on a busy machine
REGION = "eu-central-1"


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a file named after a resource keeps CloudFormation from making it."""
    return tmp_path_factory.mktemp("held")


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory, held: Path) -> Iterator[str]:
    """The address of a moto server that runs as long as the tests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "server.log"
    with log.open("wb") as said:
        command = [sys.executable, "-m", "tests.deploy.cloud", str(port), str(held)]
        server = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _until_it_answers(url, server, log)
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def cloud(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh account, and nothing of the developer's own."""
    httpx.post(f"{moto}/moto-api/reset").raise_for_status()
    for name in [name for name in os.environ if name.startswith(("AWS_", "CLOUDBRUSH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stack, "PAUSE", 0.02)  # this cloud is near


@pytest.fixture
def account(cloud: None) -> Account:
    return Account(REGION)


def _until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            httpx.get(f"{url}/moto-api/data.json").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)  # a process that starts has no way to tell us
    raise AssertionError(f"moto did not come up: {log.read_text()[-2000:]}")
