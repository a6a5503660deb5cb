"""How the settings follow from each other, and what wrong ones are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from cloudbrush.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CLOUDBRUSH_")]:
        monkeypatch.delenv(name)


def test_everything_is_in_the_data_directory_unless_told(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "here")
    assert settings.blobs_url == f"file://{tmp_path}/here/blobs"
    assert settings.database_url == f"sqlite:///{tmp_path}/here/cloudbrush.db"


def test_a_bucket_holds_the_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDBRUSH_AWS_BUCKET", "paintings")
    assert Settings().blobs_url == "s3://paintings"
    monkeypatch.setenv("CLOUDBRUSH_AWS_REGION", "eu-central-1")
    assert Settings().blobs_url == "s3://paintings?region=eu-central-1"
    monkeypatch.setenv("CLOUDBRUSH_BLOBS_URL", "s3://others/below")
    assert Settings().blobs_url == "s3://others/below"


def test_a_server_holds_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDBRUSH_DATABASE_URL", "postgresql://ann:secret@db/studio")
    assert Settings().database_url == "postgresql://ann:secret@db/studio"
    assert "secret" not in repr(Settings())
    monkeypatch.setenv("CLOUDBRUSH_DATABASE_URL", "postgres://ann@db/studio")
    assert Settings().database_url == "postgresql://ann@db/studio"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLOUDBRUSH_BLOBS_URL", "https://bucket.s3.amazonaws.com"),
        ("CLOUDBRUSH_BLOBS_URL", "s3:///nothing"),
        ("CLOUDBRUSH_BLOBS_URL", "file://host/directory"),
        ("CLOUDBRUSH_BLOBS_URL", "data/blobs"),
        ("CLOUDBRUSH_DATABASE_URL", "mysql://ann:secret@db/studio"),
        ("CLOUDBRUSH_DATABASE_URL", "data.db"),
    ],
)
def test_a_wrong_value_is_told_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    message = raised.value.errors()[0]["msg"]
    assert variable in message
    assert "secret" not in message


def test_a_wrong_data_directory_is_told_first() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(data_dir=7)  # type: ignore[arg-type]
    assert raised.value.errors()[0]["loc"] == ("data_dir",)
