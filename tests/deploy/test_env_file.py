"""The .env file: some lines changed, the others kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudbrush.aws import env_file
from cloudbrush.domain.errors import Unavailable
from cloudbrush.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_lines_that_are_not_changed_stay_as_they_are(file: Path) -> None:
    file.write_text('# a comment\n\nexport CLOUDBRUSH_PORT = 7000\nOTHER="a b"\nBROKEN\n')
    assert env_file.update(file, {"CLOUDBRUSH_AWS_BUCKET": "b"})
    assert file.read_text() == (
        '# a comment\n\nexport CLOUDBRUSH_PORT = 7000\nOTHER="a b"\nBROKEN\nCLOUDBRUSH_AWS_BUCKET=b\n'
    )


def test_a_value_is_changed_where_it_stands_and_only_once(file: Path) -> None:
    file.write_text("A=1\nexport B=2\nA=3\nC=4\n")
    env_file.update(file, {"A": "9", "B": None})
    assert file.read_text() == "A=9\nC=4\n"


def test_what_is_written_is_what_the_settings_read(file: Path) -> None:
    queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/cloudbrush-Queue"
    env_file.update(file, {"CLOUDBRUSH_AWS_QUEUE_URL": queue})
    assert Settings(_env_file=file).aws_queue_url == queue


def test_nothing_is_written_when_nothing_changes(file: Path) -> None:
    file.write_text("A=1\n")
    before = file.stat().st_mtime_ns, file.stat().st_ino
    assert not env_file.update(file, {"A": "1", "B": None})
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_only_its_owner_may_read_it(file: Path) -> None:
    file.write_text("A=1\n")
    file.chmod(0o644)
    env_file.update(file, {"A": "2"})
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("A=1\n")
    file.symlink_to(real)
    env_file.update(file, {"A": "2"})
    assert file.is_symlink()
    assert real.read_text() == "A=2\n"


def test_a_file_that_is_no_text_is_told_and_kept(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(Unavailable, match="cannot be read"):
        env_file.update(file, {"A": "1"})
    assert file.read_bytes() == b"\xff\xfe"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        env_file.update(tmp_path / "gone" / ".env", {"A": "1"})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("A=1\n")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        env_file.update(file, {"A": "2"})
    assert file.read_text() == "A=1\n"
    assert [path.name for path in file.parent.iterdir()] == [".env"]
