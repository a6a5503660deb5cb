"""Model files near the engine."""

from __future__ import annotations

import hashlib
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError, NotFound
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.digest import sha256_of
from cloudbrush.stores.download import RANGE
from cloudbrush.worker.model_cache import ModelCache
from cloudbrush.worker.model_shelf import SPARE


def stored(blobs: Blobs, content: bytes) -> AssetRef:
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"models/{sha256}.safetensors"
    blobs.put(key, content, replace=True)
    return AssetRef(kind=AssetKind.CHECKPOINT, name="m", sha256=sha256, size=len(content), key=key)


def contents(directory: Path) -> list[str]:
    """The names of what is in a cache but for its locks."""
    return sorted(path.name for path in directory.glob("*") if path.suffix != ".lock")


def stored_folder(blobs: Blobs, files: dict[str, bytes]) -> AssetRef:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    order = sorted(files, key=lambda name: name.split("/"))  # by folder, then by name
    sha256 = hashlib.sha256("".join(f"{sums[name]} {name}\n" for name in order).encode()).hexdigest()
    for name, content in files.items():
        blobs.put(f"models/{sha256}/{name}", content)
    size = sum(map(len, files.values()))
    return AssetRef(kind=AssetKind.CHECKPOINT, name="m", sha256=sha256, size=size, key=f"models/{sha256}")


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
    assert contents(tmp_path / "cache") == []


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
    read = far.read
    monkeypatch.setattr(far, "read", lambda key, *place: fetches.append(key) or read(key, *place))
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


def test_a_file_is_written_in_its_order_whatever_arrives_first(far: Blobs, tmp_path: Path) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range((3 * RANGE + 5) // 4))
    with ModelCache(far, tmp_path, capacity=2**30).holding(stored(far, content)) as path:
        assert path.read_bytes() == content


def test_a_folder_is_fetched_with_all_it_holds(far: Blobs, tmp_path: Path) -> None:
    asset = stored_folder(far, {"model_index.json": b"{}", "unet/a.safetensors": b"a", "unet-2/b": b"b"})
    with ModelCache(far, tmp_path / "cache", capacity=100).holding(asset) as path:
        assert sha256_of(path) == asset.sha256
        assert (path / "unet" / "a.safetensors").read_bytes() == b"a"
    assert contents(tmp_path / "cache") == [asset.sha256]


@pytest.mark.parametrize("files", [{}, {"model_index.json": b"{}", "more": b"!"}])
def test_a_folder_that_is_not_the_catalogues_is_refused(
    far: Blobs, tmp_path: Path, files: dict[str, bytes]
) -> None:
    asset = stored_folder(far, {"model_index.json": b"{}"})
    far.delete(asset.key)
    for name, content in files.items():
        far.put(f"{asset.key}/{name}", content)
    with pytest.raises(ModelFileError if files else NotFound), ModelCache(far, tmp_path, 100).holding(asset):
        pass
    assert contents(tmp_path) == []


def test_a_file_that_can_never_fit_drops_nothing(far: Blobs, tmp_path: Path) -> None:
    small, huge = stored(far, b"a"), stored(far, b"b" * 200)
    cache = ModelCache(far, tmp_path, capacity=100)
    with cache.holding(small):
        pass
    with pytest.raises(ModelFileError, match="does not fit") as raised, cache.holding(huge):
        pass
    assert "CLOUDBRUSH_WORKER_CACHE_BYTES" in (raised.value.hint or "")
    assert contents(tmp_path) == [f"{small.sha256}.safetensors"]


def test_a_disk_with_little_room_counts_too(
    far: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = stored(far, b"a" * 10), stored(far, b"b" * 10)
    cache = ModelCache(far, tmp_path, capacity=2**40)
    with cache.holding(first):
        pass
    left = SPARE + 5  # bytes, and what is dropped

    def usage(_directory: Path) -> SimpleNamespace:
        return SimpleNamespace(free=left if contents(tmp_path) else left + 10)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with cache.holding(second):
        pass
    left -= 20
    third = stored(far, b"c" * 10)
    with pytest.raises(ModelFileError, match="the disk has"), cache.holding(third):
        pass


def test_a_file_cut_short_on_this_machine_is_fetched_again(far: Blobs, tmp_path: Path) -> None:
    asset = stored(far, b"weights")
    cache = ModelCache(far, tmp_path, capacity=100)
    with cache.holding(asset) as path:
        pass
    path.write_bytes(b"wei")
    with cache.holding(asset) as path:
        assert path.read_bytes() == b"weights"


def test_what_a_worker_fetched_before_is_there_for_the_next(far: Blobs, tmp_path: Path) -> None:
    first, second, third = (stored(far, letter * 10) for letter in (b"a", b"b", b"c"))
    for asset in (first, second, first):
        with ModelCache(far, tmp_path, capacity=25).holding(asset):
            pass
    far.delete(first.key)
    with ModelCache(far, tmp_path, capacity=25).holding(third):
        pass
    assert contents(tmp_path) == sorted(f"{asset.sha256}.safetensors" for asset in (first, third))


class TestDelivered:
    """SageMaker lays out model files before a worker starts."""

    def test_a_file_that_is_there_needs_no_fetching(self, far: Blobs, tmp_path: Path) -> None:
        asset = stored(far, b"weights")
        far.delete("models")
        given = tmp_path / "given" / "below"
        given.mkdir(parents=True)
        (given / "any name.safetensors").write_bytes(b"weights")
        (given / "another.safetensors").write_bytes(b"WEIGHTS")
        with ModelCache(far, tmp_path / "cache", 0, tmp_path / "given").holding(asset) as path:
            assert path == given / "any name.safetensors"
        assert not (tmp_path / "cache").exists()

    def test_a_folder_too(self, far: Blobs, tmp_path: Path) -> None:
        asset = stored_folder(far, {"model_index.json": b"{}", "unet/a": b"a"})
        given = tmp_path / "given" / "model"
        (given / "unet").mkdir(parents=True)
        (given / "model_index.json").write_bytes(b"{}")
        (given / "unet" / "a").write_bytes(b"a")
        with ModelCache(far, tmp_path / "cache", 0, tmp_path / "given").holding(asset) as path:
            assert path == given

    def test_another_file_of_the_same_size_is_not_it(self, far: Blobs, tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").write_bytes(b"WEIGHTS")
        with ModelCache(far, tmp_path / "cache", 100, tmp_path).holding(stored(far, b"weights")) as path:
            assert path.read_bytes() == b"weights"

    def test_a_machine_without_is_no_trouble(self, far: Blobs, tmp_path: Path) -> None:
        with ModelCache(far, tmp_path, 100, tmp_path / "none").holding(stored(far, b"weights")) as path:
            assert path.read_bytes() == b"weights"
