"""Painting with everything far away: bytes in a bucket, records on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cloudbrush.stores.blobs import Blobs
from tests import postgres_server
from tests.cli.test_commands import cloudbrush

pytestmark = pytest.mark.timeout(300)


def test_a_picture_is_painted_through_bucket_and_server(
    bucket: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDBRUSH_BLOBS_URL", bucket)
    monkeypatch.setenv("CLOUDBRUSH_DATABASE_URL", postgres_server.new_database(postgres))
    monkeypatch.setenv("CLOUDBRUSH_WORKER_CACHE_DIR", str(tmp_path / "cache"))
    out = tmp_path / "out.png"
    words = ("txt2img", "a red circle", "--checkpoint", "pocket [sagemaker]", "--steps", "2", "--seed", "1")
    cloudbrush(*words, "-o", str(out), data_dir=tmp_path / "data")
    assert "Model: pocket," in Image.open(out).text["parameters"]
    (image,) = Blobs(bucket).keys("jobs")
    assert Blobs(bucket).get(image) == out.read_bytes()
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 1
    assert not list((tmp_path / "data").glob("*.db"))
    assert "succeeded" in cloudbrush("jobs", "list", data_dir=tmp_path / "data")
    assert "pocket [sagemaker]" in cloudbrush("models", data_dir=tmp_path / "data")
