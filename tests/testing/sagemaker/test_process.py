"""The stand-in as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from cloudbrush.testing.sagemaker import Controls, SageMaker
from tests.testing.sagemaker.cloud import ECHO, Cloud, until

LEAVE_LIMIT = 30  # seconds, on a busy machine


@pytest.fixture
def process(aws: None) -> Iterator[psutil.Popen]:
    """`python -m cloudbrush.testing.sagemaker` with a virtual clock."""
    options = ["--virtual-clock", "--creating", "5", "--", *ECHO]
    command = [sys.executable, "-m", "cloudbrush.testing.sagemaker", *options]
    process = psutil.Popen(command, stdout=subprocess.PIPE)
    yield process
    with suppress(psutil.NoSuchProcess):
        process.kill()
    process.wait()


def status(sagemaker: Any) -> str:
    """The endpoint's status."""
    return str(sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"])


def test_it_tells_where_it_listens_and_takes_its_workers_along(process: psutil.Popen) -> None:
    url = json.loads(process.stdout.readline())["url"]
    controls, sagemaker = Controls(url), boto3.client("sagemaker", endpoint_url=url)
    variant = {
        "VariantName": "v",
        "ModelName": "m",
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "echo:1"})
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    assert controls.advance(4).second == 4
    assert status(sagemaker) == "Creating"
    controls.advance(1)
    until(lambda: True if status(sagemaker) == "InService" else None)
    runtime = boto3.client("sagemaker-runtime", endpoint_url=url)
    assert runtime.invoke_endpoint(EndpointName="e", Body=b'{"say": "hello"}')["Body"].read() == b"hello"
    (worker,) = process.children()
    process.terminate()
    process.wait(LEAVE_LIMIT)
    assert not psutil.pid_exists(worker.pid) or worker.status() == psutil.STATUS_ZOMBIE
    controls.close()


@pytest.mark.usefixtures("aws")
def test_the_end_of_its_block_is_the_end_of_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SageMaker(ECHO) as standin:
        for name, value in standin.environment.items():
            monkeypatch.setenv(name, value)
        cloud = Cloud(standin, tmp_path)
        cloud.deploy(instances=2)
        door = cloud.door()
        cloud.invoke({"hold": str(door)})
        door.until_reached()
        workers = [child for child in psutil.Process().children() if ECHO[1] in child.cmdline()]
        assert len(workers) == 2
    assert not any(worker.is_running() for worker in workers)
