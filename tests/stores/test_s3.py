"""What is particular to a bucket: how it is found and asked, and what its errors say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from cloudbrush.domain.errors import CloudbrushError, Conflict, InvalidInput, NotFound, Unavailable
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.multipart import MOST_PARTS, PART, part_size
from tests import faulty, moto_server
from tests.faulty import Cut, Proxy, Refuse


@pytest.fixture
def proxy(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What boto3 and obstore find in place of AWS: a proxy that can fail."""
    with faulty.before(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


@pytest.fixture
def blobs(proxy: Proxy, bucket: str) -> Blobs:
    return Blobs(bucket)


def error(blobs: Blobs, doing: str) -> CloudbrushError:
    """What a way to ask raises."""
    ways: dict[str, Callable[[], object]] = {
        "read": lambda: blobs.get("models/x"),
        "write": lambda: blobs.put("models/x", b"x"),
        "list": lambda: blobs.keys("models"),
        "delete": lambda: blobs.delete("models"),
    }
    with pytest.raises(CloudbrushError) as raised:
        ways[doing]()
    return raised.value


def large(path: Path, parts: int) -> Path:
    path.write_bytes(b"".join(bytes([number]) * PART for number in range(parts - 1)) + b"the end")
    return path


class TestFinding:
    def test_the_endpoint_of_s3_wins_over_the_general_one(self, blobs: Blobs, proxy: Proxy) -> None:
        blobs.put("key", b"x")
        assert [asked.method for asked in proxy.asked] == ["PUT"]

    @pytest.mark.parametrize(
        ("url", "place"),
        [  # "Virtual hosting of buckets", Amazon S3 user guide
            ("s3://name?region=eu-central-1", "https://name.s3.eu-central-1.amazonaws.com/a/key"),
            ("s3://name?region=cn-north-1", "https://name.s3.cn-north-1.amazonaws.com.cn/a/key"),
            (
                "s3://with.dots/below?region=eu-west-1",
                "https://s3.eu-west-1.amazonaws.com/with.dots/below/a/key",
            ),
        ],
    )
    def test_a_bucket_of_aws_is_asked_at_its_own_host(
        self, aws: str, monkeypatch: pytest.MonkeyPatch, url: str, place: str
    ) -> None:
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        signed = Blobs(url).sign("a/key")
        assert signed is not None
        assert signed.partition("?")[0] == place

    def test_the_region_of_the_url_wins_over_the_environment(
        self, aws: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        signed = Blobs("s3://name?region=eu-west-3").sign("key")
        assert "/eu-west-3/s3/" in parse_qs(urlsplit(signed).query)["X-Amz-Credential"][0]

    def test_no_region_is_said_so(self, aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(InvalidInput, match="region") as raised:
            Blobs("s3://name")
        assert raised.value.field == "CLOUDBRUSH_AWS_REGION"

    def test_plain_http_is_for_this_machine_only(self, aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.com")
        with pytest.raises(InvalidInput, match="plain http"):
            Blobs("s3://name")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com")
        assert str(Blobs("s3://name").sign("key")).startswith("https://s3.example.com/name/key?")

    def test_other_schemes_are_refused_by_the_setting_that_names_them(self) -> None:
        with pytest.raises(InvalidInput) as raised:
            Blobs("ftp://there")
        assert raised.value.field == "CLOUDBRUSH_BLOBS_URL"


class TestErrors:
    @pytest.mark.parametrize("doing", ["read", "write", "list", "delete"])
    def test_a_missing_bucket_is_named(self, aws: str, doing: str) -> None:
        said = error(Blobs("s3://no-such-bucket/below"), doing)
        assert isinstance(said, Unavailable)
        assert "no-such-bucket" in said.detail
        assert said.field == "CLOUDBRUSH_AWS_BUCKET"

    @pytest.mark.parametrize(
        ("doing", "permission"),
        [("read", "s3:GetObject"), ("write", "s3:PutObject"), ("list", "s3:ListBucket")],
    )
    def test_a_denied_request_names_the_permission_it_needs(
        self, blobs: Blobs, proxy: Proxy, doing: str, permission: str
    ) -> None:
        proxy.fault = lambda _asked: Refuse(403, "AccessDenied")
        said = error(blobs, doing)
        assert isinstance(said, Unavailable)
        assert permission in (said.hint or "")

    def test_deleting_needs_its_own_permission(self, blobs: Blobs, proxy: Proxy) -> None:
        blobs.put("models/x", b"x")
        proxy.fault = lambda asked: Refuse(403, "AccessDenied") if asked.method != "GET" else None
        assert "s3:DeleteObject" in (error(blobs, "delete").hint or "")

    def test_keys_that_ended_are_said_so(self, blobs: Blobs, proxy: Proxy) -> None:
        proxy.fault = lambda _asked: Refuse(400, "ExpiredToken")
        said = error(blobs, "read")
        assert "ExpiredToken" in said.detail
        assert "aws sso login" in (said.hint or "")

    def test_no_credentials_are_said_so(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "no AWS credentials" in error(Blobs(bucket), "read").detail

    def test_a_bucket_elsewhere_is_said_so(self, blobs: Blobs, proxy: Proxy) -> None:
        proxy.fault = lambda _asked: Refuse(301, "PermanentRedirect")
        assert "another region" in error(blobs, "read").detail

    def test_nobody_there_is_said_so(self, aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        assert "cannot be reached" in error(Blobs("s3://bucket"), "read").detail

    def test_no_message_shows_insides(self, blobs: Blobs, proxy: Proxy) -> None:
        proxy.fault = lambda _asked: Refuse(403, "AccessDenied")
        said = error(blobs, "read")
        assert not re.search(r"http://|status|Error|\n", f"{said.detail} {said.hint}")


class TestFaults:
    def test_failures_that_pass_are_not_noticed(self, blobs: Blobs, proxy: Proxy) -> None:
        proxy.fault = lambda asked: Refuse(503, "SlowDown") if asked.number % 3 else None
        blobs.put("key", b"x" * 1000)
        assert blobs.get("key") == b"x" * 1000
        assert blobs.keys("") == ["key"]

    def test_an_answer_that_was_cut_off_goes_on_where_it_was(self, blobs: Blobs, proxy: Proxy) -> None:
        content = bytes(range(256)) * 4096
        blobs.put("key", content)
        began = len(proxy.asked)
        proxy.fault = lambda asked: Cut() if asked.number in (began + 1, began + 2) else None
        assert blobs.get("key") == content
        assert len(proxy.asked) == began + 3

    def test_what_keeps_failing_ends_with_a_word(self, blobs: Blobs, proxy: Proxy) -> None:
        proxy.fault = lambda _asked: Refuse(500, "InternalError")
        said = error(blobs, "read")
        assert isinstance(said, Unavailable)
        assert "InternalError" in said.detail


class TestLargeFiles:
    def test_an_upload_that_was_cut_off_goes_on(self, blobs: Blobs, proxy: Proxy, tmp_path: Path) -> None:
        file = large(tmp_path / "model", parts=4)
        proxy.fault = lambda asked: Refuse(400, "InvalidPart") if "partNumber=3" in asked.path else None
        with pytest.raises(Unavailable, match="InvalidPart"):
            blobs.upload("models/m", file)
        assert not blobs.exists("models/m")
        proxy.fault, began = lambda _asked: None, len(proxy.asked)
        arrived: list[int] = []
        blobs.upload("models/m", file, arrived.append)
        assert b"".join(blobs.stream("models/m")) == file.read_bytes()
        sent = [asked.path for asked in proxy.asked[began:] if "partNumber" in asked.path]
        assert 1 <= len(sent) < 4
        assert any("partNumber=3" in path for path in sent)
        assert arrived[0] > 0
        assert arrived[-1] == file.stat().st_size

    def test_parts_of_another_size_are_not_taken_over(
        self, blobs: Blobs, aws: str, bucket: str, tmp_path: Path
    ) -> None:
        s3 = moto_server.client(aws)
        place = {"Bucket": urlsplit(bucket).netloc, "Key": "some/where/models/m"}
        begun = s3.create_multipart_upload(**place)["UploadId"]
        s3.upload_part(**place, UploadId=begun, PartNumber=1, Body=b"y" * 5)
        file = large(tmp_path / "model", parts=2)
        blobs.upload("models/m", file)
        assert blobs.get("models/m") == file.read_bytes()

    def test_nothing_is_left_of_an_upload_somebody_else_finished(
        self, blobs: Blobs, aws: str, bucket: str, tmp_path: Path
    ) -> None:
        file = large(tmp_path / "model", parts=2)
        blobs.upload("models/m", file)
        with pytest.raises(Conflict):
            blobs.upload("models/m", file)
        assert "Uploads" not in moto_server.client(aws).list_multipart_uploads(Bucket=urlsplit(bucket).netloc)

    def test_a_file_that_changes_meanwhile_is_refused(self, blobs: Blobs, tmp_path: Path) -> None:
        file = large(tmp_path / "model", parts=2)
        touched: list[int] = []

        def touch(_done: int) -> None:
            if not touched:
                os.utime(file, ns=(1, 1))
            touched.append(1)

        with pytest.raises(Conflict, match="changed"):
            blobs.upload("models/m", file, touch)
        assert not blobs.exists("models/m")

    def test_the_largest_file_s3_takes_fits_into_its_parts(self) -> None:
        largest = 5 * 2**40  # bytes; "Amazon S3 multipart upload limits"
        assert -(-largest // part_size(largest)) <= MOST_PARTS
        assert part_size(1) == PART >= 5 * 2**20


class TestSignedUrls:
    def test_anyone_may_read_and_write_the_one_object(self, blobs: Blobs) -> None:
        put, get = blobs.sign("pictures/a", "PUT"), blobs.sign("pictures/a")
        assert put is not None
        assert get is not None
        httpx.put(put, content=b"bytes").raise_for_status()
        assert blobs.get("pictures/a") == b"bytes"
        assert httpx.get(get).content == b"bytes"

    def test_they_end_soon(self, blobs: Blobs) -> None:
        def seconds(life: timedelta) -> int:
            return int(parse_qs(urlsplit(blobs.sign("key", "GET", life)).query)["X-Amz-Expires"][0])

        assert seconds(timedelta(seconds=90)) == 90
        assert seconds(timedelta(days=1)) == 3600
        assert "X-Amz-Expires=600" in str(blobs.sign("key"))

    def test_a_directory_has_none(self, tmp_path: Path) -> None:
        assert Blobs(tmp_path.as_uri()).sign("key") is None


def test_a_file_that_is_gone_is_not_taken_for_an_object(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gone cannot be read") as raised:
        blobs.put("key", tmp_path / "gone")
    assert not isinstance(raised.value, NotFound)
