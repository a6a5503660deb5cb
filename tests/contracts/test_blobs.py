"""What every blob store must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudbrush.domain.errors import Conflict, NotFound
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.multipart import PART


@pytest.fixture(params=["directory", "memory", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "bucket":
        return Blobs(request.getfixturevalue("bucket"))
    return Blobs((tmp_path / "blobs").as_uri() if request.param == "directory" else "memory:///")


def test_what_was_put_is_what_is_read(blobs: Blobs) -> None:
    blobs.put("jobs/a/1/0.png", b"\x89PNG")
    assert blobs.get("jobs/a/1/0.png") == b"\x89PNG"


def test_a_large_object_streams_in_chunks(blobs: Blobs, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 2**17)  # 32 MiB
    blobs.put("models/large", file)
    chunks = list(blobs.stream("models/large"))
    assert b"".join(chunks) == file.read_bytes()


def test_an_uploaded_file_tells_how_far_it_is(blobs: Blobs, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * (PART + 1))
    arrived: list[int] = []
    blobs.upload("models/large", file, arrived.append)
    assert arrived == sorted(arrived)
    assert arrived[-1] == PART + 1
    with pytest.raises(Conflict):
        blobs.upload("models/large", file)


def test_parts_can_be_read(blobs: Blobs) -> None:
    blobs.put("key", b"0123456789")
    assert (blobs.read("key", 0, 3), blobs.read("key", 7, 10)) == (b"012", b"789")


def test_a_missing_object_is_not_found(blobs: Blobs) -> None:
    assert not blobs.exists("jobs/none")
    with pytest.raises(NotFound, match="jobs/none"):
        blobs.get("jobs/none")
    with pytest.raises(NotFound, match="jobs/none"):
        blobs.read("jobs/none", 0, 1)


def test_a_list_tells_sizes_and_whether_contents_differ(blobs: Blobs) -> None:
    blobs.put("list/a", b"one")
    blobs.put("list/b/c", b"three")
    blobs.put("listed", b"not below the folder")
    first, second = blobs.entries("list")
    assert (first.key, first.size, second.key, second.size) == ("list/a", 3, "list/b/c", 5)
    assert blobs.exists("list/b/c")
    blobs.put("list/a", b"another", replace=True)
    assert blobs.entries("list")[0].tag != first.tag
    assert blobs.entries("nothing") == []


def test_an_object_is_written_once(blobs: Blobs) -> None:
    blobs.put("jobs/a/1/0.png", b"first")
    with pytest.raises(Conflict):
        blobs.put("jobs/a/1/0.png", b"second")
    assert blobs.get("jobs/a/1/0.png") == b"first"


def test_replacing_must_be_asked_for(blobs: Blobs) -> None:
    blobs.put("key", b"first")
    blobs.put("key", b"second", replace=True)
    assert blobs.get("key") == b"second"


def test_deleting_a_prefix_leaves_its_neighbours_and_what_is_kept(blobs: Blobs) -> None:
    for key in ("jobs/a/1/0.png", "jobs/a/2/0.png", "jobs/ab/1/0.png"):
        blobs.put(key, b"x")
    blobs.delete("jobs/a", keep=frozenset({"jobs/a/2/0.png"}))
    assert blobs.keys("jobs") == ["jobs/a/2/0.png", "jobs/ab/1/0.png"]
    blobs.delete("jobs/a")
    assert blobs.keys("jobs") == ["jobs/ab/1/0.png"]
    blobs.delete("jobs/a")


def test_deleting_at_once_is_deleting(blobs: Blobs) -> None:
    for number in range(40):
        blobs.put(f"jobs/a/1/{number}.png", b"x")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: blobs.delete("jobs/a"), range(4)))
    assert blobs.keys("jobs") == []


def test_an_adopted_file_is_read_under_its_key(blobs: Blobs, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    for _ in range(2):
        blobs.adopt("models/abc.safetensors", file)
    path = blobs.local_path("models/abc.safetensors")
    assert (path.read_bytes() if path else blobs.get("models/abc.safetensors")) == b"weights"
