"""What is in the bucket, and how it is emptied before it goes."""

from __future__ import annotations

from typing import Any

from cloudbrush.aws.account import Account, AwsRefused
from cloudbrush.domain.errors import Conflict

GONE = frozenset({"NoSuchBucket", "404"})
AT_ONCE = 1000  # objects; DeleteObjects takes no more


def content(account: Account, bucket: str) -> tuple[int, int]:
    """How many objects, old versions too, and how many bytes; none in a bucket that is not there."""
    count = size = 0
    try:
        for page in account.pages("s3", "list_object_versions", Bucket=bucket):
            versions = page.get("Versions", [])
            count += len(versions) + len(page.get("DeleteMarkers", []))
            size += sum(version["Size"] for version in versions)
    except AwsRefused as error:
        if error.reason not in GONE:
            raise
    return count, size


def empty(account: Account, bucket: str) -> None:
    """Delete every object, every version and every unfinished upload. Raises `Conflict` if some stay."""
    while entries := _some(account, bucket):
        _delete(account, bucket, entries)
    for page in account.pages("s3", "list_multipart_uploads", Bucket=bucket):
        for upload in page.get("Uploads", []):
            account.call(
                *("s3", "abort_multipart_upload"),
                Bucket=bucket,
                Key=upload["Key"],
                UploadId=upload["UploadId"],
            )


def _some(account: Account, bucket: str) -> list[dict[str, Any]]:
    """As many of the versions that are there as one call deletes."""
    page = account.call("s3", "list_object_versions", Bucket=bucket, MaxKeys=AT_ONCE)
    return [*page.get("Versions", []), *page.get("DeleteMarkers", [])]


def _delete(account: Account, bucket: str, entries: list[dict[str, Any]]) -> None:
    objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
    answer = account.call("s3", "delete_objects", Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    for error in answer.get("Errors", ()):
        raise Conflict(f"S3 does not delete {error['Key']}: {error.get('Message') or error.get('Code')}")
