"""Model files near the engine."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError, NotFound
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker.model_cache import ModelCache


def stored(blobs: Blobs, content: bytes) -> AssetRef:
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"models/{sha256}.safetensors"
    blobs.put(key, content, replace=True)
    return AssetRef(kind=AssetKind.CHECKPOINT, name="m", sha256=sha256, size=len(content), key=key)


@pytest.fixture
def far() -> Blobs:
    """A store that cannot lend its files."""
    return Blobs("memory:///")


def test_a_far_file_is_fetched_once(far: Blobs, tmp_path: Path) -> None:
    asset = stored(far, b"weights")
    cache = ModelCache(far, tmp_path, capacity=100)
    with cache.holding(asset) as path:
        assert path.read_bytes() == b"weights"
    far.delete("models")
    with cache.holding(asset) as path:
        assert path.read_bytes() == b"weights"


def test_a_near_file_is_used_in_place(tmp_path: Path) -> None:
    near = Blobs((tmp_path / "blobs").as_uri())
    asset = stored(near, b"weights")
    with ModelCache(near, tmp_path / "cache", capacity=0).holding(asset) as path:
        assert path == near.local_path(asset.key)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("place", ["near", "far"])
def test_a_file_that_is_not_the_catalogues_is_refused(place: str, tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri() if place == "near" else "memory:///")
    asset = stored(blobs, b"weights")
    blobs.put(asset.key, b"tampered", replace=True)
    cache = ModelCache(blobs, tmp_path / "cache", capacity=100)
    with pytest.raises(ModelFileError, match="sha256"), cache.holding(asset):
        pass
    assert list((tmp_path / "cache").glob("*")) == []


@pytest.mark.parametrize("place", ["near", "far"])
def test_a_file_that_is_gone_is_not_found(place: str, tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri() if place == "near" else "memory:///")
    asset = stored(blobs, b"weights")
    blobs.delete("models")
    if path := blobs.local_path(asset.key):
        path.unlink(missing_ok=True)
    with pytest.raises(NotFound), ModelCache(blobs, tmp_path / "cache", 100).holding(asset):
        pass


def test_the_least_recently_used_file_makes_room(far: Blobs, tmp_path: Path) -> None:
    first, second, third = (stored(far, letter * 10) for letter in (b"a", b"b", b"c"))
    cache = ModelCache(far, tmp_path, capacity=25)
    for asset in (first, second, first, third):
        with cache.holding(asset):
            pass
    kept = {path.stem for path in tmp_path.glob("*.safetensors")}
    assert kept == {first.sha256, third.sha256}


def test_a_file_in_use_is_never_dropped(far: Blobs, tmp_path: Path) -> None:
    first, second = (stored(far, letter * 10) for letter in (b"a", b"b"))
    cache = ModelCache(far, tmp_path, capacity=15)
    with cache.holding(first) as path:
        with pytest.raises(ModelFileError, match="does not fit"), cache.holding(second):
            pass
        assert path.exists()
    with cache.holding(second) as path:
        assert path.exists()


def test_many_at_once_fetch_a_file_once(far: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = stored(far, b"weights" * 1000)
    fetches: list[str] = []
    stream = far.stream
    monkeypatch.setattr(far, "stream", lambda key: fetches.append(key) or stream(key))
    cache = ModelCache(far, tmp_path, capacity=10_000)
    start = threading.Barrier(8)

    def hold() -> None:
        start.wait()
        with cache.holding(asset):
            pass

    with ExitStack() as running:
        for _ in range(8):
            thread = threading.Thread(target=hold)
            thread.start()
            running.callback(thread.join)
    assert len(fetches) == 1
