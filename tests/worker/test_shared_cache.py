"""Workers that share a cache directory, and a bucket that fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError, Unavailable
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.download import RANGE
from cloudbrush.worker.model_cache import ModelCache
from tests import faulty
from tests.faulty import Asked, Cut, Fault, Proxy, Refuse

RANGES = 5
CONTENT = b"".join(bytes([number]) * RANGE for number in range(RANGES - 1)) + b"the end"
DEADLINE = 60.0  # seconds, on a busy machine
HOLDING = """
import sys
from pathlib import Path
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker.model_cache import ModelCache

url, directory, capacity, asset = sys.argv[1:]
with ModelCache(Blobs(url), Path(directory), int(capacity)).holding(AssetRef.model_validate_json(asset)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with faulty.before(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def far(bucket: str, proxy: Proxy) -> Blobs:
    return Blobs(bucket)


@pytest.fixture
def asset(far: Blobs) -> AssetRef:
    return stored(far, CONTENT)


def stored(blobs: Blobs, content: bytes) -> AssetRef:
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"models/{sha256}.safetensors"
    blobs.put(key, content)
    return AssetRef(kind=AssetKind.CHECKPOINT, name="m", sha256=sha256, size=len(content), key=key)


def reads(proxy: Proxy) -> int:
    """How many times a model's bytes were asked for."""
    return sum(is_read(asked) for asked in proxy.asked)


def is_read(asked: Asked) -> bool:
    return asked.method == "GET" and asked.path.endswith(".safetensors")


@contextmanager
def worker(
    far: Blobs, directory: Path, asset: AssetRef, capacity: int = 2**30
) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the model until its input ends."""
    words = (far.url, str(directory), str(capacity), asset.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says_held(process: subprocess.Popen[str]) -> bool:
    """Whether it holds the model; waits until it does or ends."""
    assert process.stdout is not None
    return process.stdout.readline() == "held\n"


def test_two_workers_fetch_a_model_once(far: Blobs, proxy: Proxy, asset: AssetRef, tmp_path: Path) -> None:
    with worker(far, tmp_path, asset) as one, worker(far, tmp_path, asset) as two:
        assert says_held(one)
        assert says_held(two)
    assert reads(proxy) == RANGES
    assert (tmp_path / f"{asset.sha256}.safetensors").read_bytes() == CONTENT


def test_what_another_worker_uses_is_never_dropped(far: Blobs, asset: AssetRef, tmp_path: Path) -> None:
    small = stored(far, b"small")
    mine = ModelCache(far, tmp_path, capacity=asset.size + 1)
    with worker(far, tmp_path, asset) as other:
        assert says_held(other)
        with pytest.raises(ModelFileError, match="does not fit"), mine.holding(small):
            pass
    with mine.holding(small):
        assert not (tmp_path / f"{asset.sha256}.safetensors").exists()


def test_a_worker_killed_while_fetching_leaves_nothing_behind(
    far: Blobs, proxy: Proxy, asset: AssetRef, tmp_path: Path
) -> None:
    begun, killed = threading.Event(), threading.Event()

    def hang(asked: Asked) -> Fault:
        if is_read(asked) and asked.number % 3 == 0:
            begun.set()
            killed.wait(DEADLINE)
        return None

    proxy.fault = hang
    with worker(far, tmp_path, asset):
        assert begun.wait(DEADLINE)
        assert (tmp_path / f"{asset.sha256}.part").stat().st_size == asset.size
    killed.set()
    proxy.fault = lambda _asked: None
    small = stored(far, b"small")
    cache = ModelCache(far, tmp_path, capacity=asset.size)  # what was left would fill it
    with cache.holding(small):
        assert list(tmp_path.glob("*.part")) == []
    with cache.holding(asset) as path:
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "fault",
    [
        lambda asked: Refuse(503, "SlowDown") if asked.number % 2 else None,
        lambda asked: Cut() if asked.number % 2 else None,
    ],
    ids=["errors", "cuts"],
)
def test_a_bucket_that_fails_at_times_is_read_to_the_end(
    far: Blobs, proxy: Proxy, asset: AssetRef, tmp_path: Path, fault: Callable[[Asked], Fault]
) -> None:
    proxy.fault = fault
    with ModelCache(far, tmp_path, 2**30).holding(asset) as path:
        assert path.read_bytes() == CONTENT
    assert reads(proxy) > RANGES


def test_a_bucket_that_fails_for_good_leaves_nothing_behind(
    far: Blobs, proxy: Proxy, asset: AssetRef, tmp_path: Path
) -> None:
    proxy.fault = lambda asked: Refuse(403, "AccessDenied") if is_read(asked) else None
    with pytest.raises(Unavailable, match="does not allow"), ModelCache(far, tmp_path, 2**30).holding(asset):
        pass
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"] * 2
