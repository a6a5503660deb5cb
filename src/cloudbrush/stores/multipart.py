"""Large files into a bucket: in parts, several at once, going on where an earlier try was cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudbrush.domain.errors import Conflict
from cloudbrush.stores.s3 import PARTS_AT_ONCE

PART = 16 * 2**20  # bytes
MOST_PARTS = 10_000  # S3's limit
EXISTS = frozenset({"PreconditionFailed", "412"})
OnProgress = Callable[[int], None]
"""Called with the bytes that have arrived so far."""


@dataclass(frozen=True)
class Upload:
    """One file on its way to one object."""

    client: Any  # boto3's, for S3
    bucket: str
    name: str  # of the object
    file: Path

    def run(self, on_progress: OnProgress, *, replace: bool) -> None:
        """Send what is not there yet and put it together.

        Names are made of contents, so parts of an earlier try under the same name are parts of the same file.
        Raises `Conflict` when the object exists or the file changes meanwhile, and botocore's errors.
        """
        before = self._state()
        upload, arrived = self._earlier() or (self._begin(), {})
        sizes = dict(_parts(self.file.stat().st_size))
        parts = {number: tag for number, (size, tag) in arrived.items() if sizes.get(number) == size}
        done = sum(sizes[number] for number in parts)
        on_progress(done)
        for number, tag in self._send(upload, [number for number in sizes if number not in parts]):
            parts[number] = tag
            done += sizes[number]
            on_progress(done)
        if self._state() != before:
            raise Conflict(f"{self.file.name} changed while it was uploaded", hint="Upload it again.")
        self._complete(upload, parts, replace=replace)

    def _send(self, upload: str, numbers: list[int]) -> Iterator[tuple[int, str]]:
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="upload") as pool:
            try:
                for sent in as_completed(
                    [pool.submit(self._send_part, upload, number) for number in numbers]
                ):
                    yield sent.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # the first error, or Ctrl+C, ends it

    def _send_part(self, upload: str, number: int) -> tuple[int, str]:
        size = part_size(self.file.stat().st_size)
        with self.file.open("rb") as file:
            file.seek((number - 1) * size)
            answer = self.client.upload_part(
                **self._object, UploadId=upload, PartNumber=number, Body=file.read(size)
            )
        return number, str(answer["ETag"])

    def _earlier(self) -> tuple[str, dict[int, tuple[int, str]]] | None:
        """The upload begun last under this name, and size and tag of its parts."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self.name
        )
        found = [one for page in pages for one in page.get("Uploads", ()) if one["Key"] == self.name]
        if not found:
            return None
        upload = max(found, key=lambda one: one["Initiated"])["UploadId"]
        pages = self.client.get_paginator("list_parts").paginate(**self._object, UploadId=upload)
        parts = [part for page in pages for part in page.get("Parts", ())]
        return upload, {part["PartNumber"]: (part["Size"], part["ETag"]) for part in parts}

    def _begin(self) -> str:
        return str(self.client.create_multipart_upload(**self._object)["UploadId"])

    def _complete(self, upload: str, parts: dict[int, str], *, replace: bool) -> None:
        from botocore.exceptions import ClientError

        listed = [{"PartNumber": number, "ETag": parts[number]} for number in sorted(parts)]
        condition = {} if replace else {"IfNoneMatch": "*"}
        try:
            self.client.complete_multipart_upload(
                **self._object, UploadId=upload, MultipartUpload={"Parts": listed}, **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in EXISTS:
                raise
            self.client.abort_multipart_upload(**self._object, UploadId=upload)
            raise Conflict(f"the object {self.name} exists already") from error

    @property
    def _object(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.name}

    def _state(self) -> tuple[int, int]:
        state = self.file.stat()
        return state.st_size, state.st_mtime_ns


def part_size(size: int) -> int:
    """Bytes a part of a file of `size` bytes has, the last one excepted; depends on nothing else."""
    return max(PART, -(-size // MOST_PARTS))


def _parts(size: int) -> Iterator[tuple[int, int]]:
    """Number and size of each part."""
    whole = part_size(size)
    for number, start in enumerate(range(0, size, whole), 1):
        yield number, min(whole, size - start)
