"""`cloudbrush models upload` against a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.multipart import PART
from cloudbrush.wiring import BUILTIN_MODELS
from tests import faulty
from tests.cli.test_commands import cloudbrush
from tests.control.test_assets import checkpoint
from tests.faulty import Proxy, Refuse

POCKET = BUILTIN_MODELS / "Stable-diffusion" / "pocket.safetensors"


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with faulty.before(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def blobs(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    monkeypatch.setenv("CLOUDBRUSH_BLOBS_URL", bucket)
    return Blobs(bucket)


def parts(proxy: Proxy) -> int:
    """How many parts of large files were sent."""
    return sum("partNumber=" in asked.path for asked in proxy.asked)


def test_a_model_goes_up_and_is_listed_with_the_suffix(blobs: Blobs, proxy: Proxy, tmp_path: Path) -> None:
    assert POCKET.stat().st_size > PART
    assert "pocket [sagemaker]" not in cloudbrush("models", data_dir=tmp_path)
    said = cloudbrush("models", "upload", "pocket", data_dir=tmp_path)
    assert "checkpoint pocket [sagemaker] is in the cloud" in said
    (entry,) = [entry for entry in blobs.entries("models") if not entry.key.endswith(".json")]
    assert blobs.get(entry.key) == POCKET.read_bytes()
    assert "pocket [sagemaker]" in cloudbrush("models", "list", data_dir=tmp_path)
    sent = parts(proxy)
    assert sent > 1
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(POCKET.read_bytes())
    said = cloudbrush("models", "upload", str(copy), data_dir=tmp_path)
    assert "copy [sagemaker] was in the cloud already" in said
    assert parts(proxy) == sent


def test_an_upload_that_was_cut_off_goes_on(blobs: Blobs, proxy: Proxy, tmp_path: Path) -> None:
    proxy.fault = lambda asked: Refuse(400, "InvalidPart") if "partNumber=2" in asked.path else None
    assert "InvalidPart" in cloudbrush("models", "upload", "pocket", data_dir=tmp_path, status=1)
    assert blobs.keys("models") == []
    proxy.fault = lambda _asked: None
    before = parts(proxy)
    cloudbrush("models", "upload", "pocket", data_dir=tmp_path)
    assert parts(proxy) == before + 1
    assert len(blobs.keys("models")) == 2


def test_wrong_files_are_refused_before_anything_is_sent(blobs: Blobs, proxy: Proxy, tmp_path: Path) -> None:
    good, page = checkpoint(tmp_path / "good.safetensors"), tmp_path / "page.safetensors"
    page.write_text("<html>not found</html>")
    said = cloudbrush("models", "upload", str(good), str(page), data_dir=tmp_path, status=1)
    assert "page.safetensors" in said
    assert "web page" in said
    said = cloudbrush("models", "upload", str(good), "--kind", "lora", data_dir=tmp_path, status=1)
    assert "this is a checkpoint" in said
    assert "no kind 'painting'" in cloudbrush(
        "models", "upload", str(good), "--kind", "painting", data_dir=tmp_path, status=1
    )
    assert blobs.keys("models") == []
    assert proxy.asked[:-1] == []


def test_without_a_cloud_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDBRUSH_BLOBS_URL", raising=False)
    said = cloudbrush("models", "upload", "pocket", data_dir=tmp_path, status=1)
    assert "CLOUDBRUSH_AWS_BUCKET" in said
    assert "cloudbrush aws up" in said
