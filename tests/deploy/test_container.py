"""SageMaker's container contract, asked of the real worker process.

Sources: SageMaker AI Developer Guide, "Custom Inference Code with Hosting Services".
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from cloudbrush import wiring
from cloudbrush.cli import working
from cloudbrush.cli.app import app
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import Unavailable
from cloudbrush.domain.invocation import AssetRef, Delivery, Invocation
from cloudbrush.worker.serve import serve
from cloudbrush.worker.settings import WorkerSettings
from tests import builders
from tests.deploy.conftest import REGION
from tests.deploy.container import Container, can_be_read_only, read_only_but

SIX_MB = 6 * 10**6  # the most SageMaker hands a real-time endpoint
LIMIT = 25.0  # seconds from SIGTERM to the end; SageMaker kills after 30
JSON = {"Content-Type": "application/json"}
POCKET = wiring.BUILTIN_MODELS / "Stable-diffusion/pocket.safetensors"


@pytest.fixture(scope="module")
def bucket(moto: str) -> str:
    httpx.post(f"{moto}/moto-api/reset").raise_for_status()
    name = "cloudbrush-container"
    s3(moto).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3(moto).upload_file(str(POCKET), name, checkpoint().key)
    return name


@pytest.fixture(scope="module")
def far(moto: str, bucket: str) -> dict[str, str]:
    """The environment that leads a worker to the bucket."""
    return {
        "CLOUDBRUSH_WORKER_BLOBS_URL": f"s3://{bucket}",
        "AWS_ENDPOINT_URL": moto,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, far: dict[str, str]) -> Iterator[Container]:
    """A healthy worker that may write to its cache only."""
    yield from running(tmp_path_factory.mktemp("container"), far)


def running(folder: Path, environment: dict[str, str]) -> Iterator[Container]:
    if not can_be_read_only(folder):
        pytest.skip("this machine allows no mount namespaces, so nothing can be made read-only")
    container = Container.start(folder, environment)
    try:
        container.until_healthy()
        yield container
    finally:
        container.stop()


def s3(moto: str) -> Any:
    return boto3.client(
        "s3", REGION, endpoint_url=moto, aws_access_key_id="test", aws_secret_access_key="test"
    )


def checkpoint() -> AssetRef:
    sha256 = hashlib.sha256(POCKET.read_bytes()).hexdigest()
    key, size = f"models/{sha256}.safetensors", POCKET.stat().st_size
    return AssetRef(kind=AssetKind.CHECKPOINT, name="pocket", sha256=sha256, size=size, key=key)


def invocation(*, steps: int = 2, side: int = 64, asset: AssetRef | None = None) -> Invocation:
    painting = builders.generation(width=side, height=side, steps=steps, sampler="Euler")
    assets = (asset or checkpoint(),)
    return Invocation(
        job_id=builders.new_id(), epoch=1, generation=painting, assets=assets, delivery=Delivery.OBJECT
    )


def invoke(container: Container, body: str | bytes | Iterator[bytes]) -> httpx.Response:
    return httpx.post(f"{container.url}/invocations", content=body, headers=JSON, timeout=120)


def test_the_namespace_keeps_everything_but_the_folder_from_being_written(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    if not can_be_read_only(kept):
        pytest.skip("this machine allows no mount namespaces")
    for place, status in ((tmp_path / "x", 1), (Path.cwd() / "x", 1), (Path("/tmp/x"), 1), (kept / "x", 0)):
        done = subprocess.run([*read_only_but(kept), "touch", str(place)], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert place.exists() is (status == 0)


def test_it_paints_on_a_read_only_file_system_and_writes_to_the_bucket_itself(
    container: Container, moto: str, bucket: str, tmp_path: Path
) -> None:
    asked = invocation()
    answer = invoke(container, asked.model_dump_json())
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["images"]
    assert image["key"] == f"jobs/{asked.job_id}/1/0.png"
    file = tmp_path / "image.png"
    s3(moto).download_file(bucket, image["key"], str(file))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == image["sha256"]
    assert Image.open(file).size == (64, 64)


def test_what_it_fetched_lies_in_the_cache(container: Container) -> None:
    assert invoke(container, invocation().model_dump_json()).status_code == 200
    kept = [file for file in container.cache.rglob("*") if file.is_file()]
    assert POCKET.stat().st_size in [file.stat().st_size for file in kept]


def test_json_up_to_the_services_limit_is_taken(container: Container) -> None:
    body = invocation().model_dump_json()
    answer = invoke(container, body + " " * (SIX_MB - len(body)))
    assert answer.status_code == 200


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_without_end_is_refused_and_hurts_nobody(container: Container, announced: bool) -> None:
    megabyte, megabytes = b" " * 2**20, 33
    body = megabyte * megabytes if announced else (megabyte for _ in range(megabytes))
    try:
        answer = invoke(container, body)
    except (httpx.WriteError, httpx.RemoteProtocolError):
        pass  # it hung up before all was sent
    else:
        assert answer.status_code == 413
        assert set(answer.json()) == {"code", "detail", "field", "hint"}
    assert httpx.get(f"{container.url}/ping", timeout=2).status_code == 200


@pytest.mark.parametrize("body", ["", "{", "[]", '{"job_id": "../../etc"}'])
def test_what_is_no_invocation_is_refused_with_the_field(container: Container, body: str) -> None:
    answer = invoke(container, body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"code", "detail", "field", "hint"}


def test_a_model_that_is_not_there_fails_by_name_and_the_next_job_paints(container: Container) -> None:
    sha256 = "0" * 64
    gone = AssetRef(
        kind=AssetKind.CHECKPOINT, name="gone", sha256=sha256, size=1, key=f"models/{sha256}.safetensors"
    )
    answer = invoke(container, invocation(asset=gone).model_dump_json())
    assert answer.status_code >= 400
    assert "/tmp" not in answer.text
    assert invoke(container, invocation().model_dump_json()).status_code == 200


def test_several_invocations_run_at_once(container: Container) -> None:
    with ThreadPoolExecutor(4) as pool:
        bodies = [invocation(steps=4).model_dump_json() for _ in range(4)]
        answers = list(pool.map(lambda body: invoke(container, body).status_code, bodies))
    assert answers == [200] * 4


def test_ping_answers_in_time_while_it_paints(container: Container) -> None:
    with ThreadPoolExecutor(1) as pool:
        painting = pool.submit(invoke, container, invocation(steps=60).model_dump_json())
        asked = 0
        while not painting.done():
            # SageMaker gives a health check two seconds.
            assert httpx.get(f"{container.url}/ping", timeout=2).status_code == 200
            asked += 1
            threading.Event().wait(0.2)
    assert painting.result().status_code == 200
    assert asked > 1


def test_other_paths_are_not_found(container: Container) -> None:
    for path in ("/", "/docs", "/openapi.json", "/invocations/../../etc/passwd"):
        assert httpx.get(f"{container.url}{path}").status_code in (404, 405)


def test_told_to_stop_it_finishes_what_it_paints_takes_no_more_and_ends_with_0(
    tmp_path: Path, far: dict[str, str]
) -> None:
    for container in running(tmp_path, far):
        with ThreadPoolExecutor(1) as pool:
            painting = pool.submit(invoke, container, invocation(steps=60).model_dump_json())
            until_it_fetched_the_model(container, painting)
            told = time.monotonic()
            container.process.send_signal(signal.SIGTERM)
            assert painting.result().status_code == 200, container.said()
        assert container.process.wait(LIMIT) == 0
        assert time.monotonic() - told < LIMIT
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{container.url}/ping")


@pytest.mark.slow  # waits out the time it is given
def test_what_would_take_too_long_is_given_up_in_time(tmp_path: Path, far: dict[str, str]) -> None:
    for container in running(tmp_path, far):
        with ThreadPoolExecutor(1) as pool:
            painting = pool.submit(invoke, container, invocation(steps=150, side=512).model_dump_json())
            until_it_fetched_the_model(container, painting)
            os.kill(container.process.pid, signal.SIGTERM)
            assert container.process.wait(LIMIT) == 0
            with suppress(httpx.HTTPError):  # or it hung up, which says as much: it may run again elsewhere
                assert painting.result().status_code >= 500


def test_told_to_stop_before_it_listens_it_ends_with_0_too(tmp_path: Path, far: dict[str, str]) -> None:
    if not can_be_read_only(tmp_path):
        pytest.skip("this machine allows no mount namespaces")
    container = Container.start(tmp_path / "c", far)
    try:
        until_it_imports(container)
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(LIMIT) == 0
    finally:
        container.stop()


def test_a_cache_it_cannot_write_is_told_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    (tmp_path / "file").touch()
    settings = WorkerSettings(blobs_url="s3://bucket", cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(Unavailable) as caught:
        serve(settings, "127.0.0.1", 0, exit_with_parent=False)
    assert caught.value.field == "CLOUDBRUSH_WORKER_CACHE_DIR"


@pytest.mark.parametrize(
    ("words", "environment", "port"),
    [
        (["serve"], {}, 8080),
        ([], {}, 8080),
        (["serve"], {"SAGEMAKER_BIND_TO_PORT": "8123"}, 8123),
        (["--port", "9000"], {"SAGEMAKER_BIND_TO_PORT": "8123"}, 9000),
    ],
)
def test_the_port_is_the_services_unless_someone_says_otherwise(
    words: list[str], environment: dict[str, str], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(working, "worker", lambda _host, port, **_: asked.append(port))
    result = CliRunner().invoke(app, ["worker", *words], env=environment)
    assert (result.exit_code, asked) == (0, [port]), result.output


def test_another_word_than_the_services_is_refused() -> None:
    assert CliRunner().invoke(app, ["worker", "train"]).exit_code == 2


def until_it_fetched_the_model(container: Container, painting: Any) -> None:
    """Until the worker has the model, so that the run is under way."""
    deadline = time.monotonic() + 60
    while not list(container.cache.glob("*.safetensors")):
        assert time.monotonic() < deadline
        assert not painting.done(), painting.result().text
        time.sleep(0.02)  # a file of another process


def until_it_imports(container: Container) -> None:
    """Until the process has torch's library open, which takes the longest of its start."""
    deadline = time.monotonic() + 60
    maps = Path(f"/proc/{container.process.pid}/maps")
    while "libtorch" not in maps.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # another process's memory
