"""AWS off the event loop: each call in a thread, its errors in our words."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread

from cloudbrush.aws.account import Account, AwsRefused
from cloudbrush.domain.errors import NotFound, Unavailable

THREADS = 40  # calls at once; botocore's connections to one service are fewer and are waited for

# AWS's words for "not now", when botocore's own retries were of no avail.
BUSY = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "SlowDown"}
    | {"RequestLimitExceeded", "RequestThrottled", "ConcurrentUpdateException"}
    | {"ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "InternalServerError"}
    | {"InternalError", "InternalServiceException", "RequestTimeout", "500", "502", "503", "504"}
)
GONE = ("could not find", "not found", "does not exist", "no scalable target", "no scaling policy")


class Calls:
    """The account's services, to be awaited."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._threads = CapacityLimiter(THREADS)

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """One answer. Raises `NotFound`, `Unavailable`, `Denied`, `AwsRefused`."""
        asked = partial(self._account.call, service, operation, **arguments)
        try:
            return await to_thread.run_sync(asked, limiter=self._threads, abandon_on_cancel=True)
        except AwsRefused as error:
            if error.reason in BUSY:
                raise Unavailable(error.detail, hint="AWS is busy; trying later may help.") from error
            if is_gone(error):
                raise NotFound(error.detail) from error
            raise

    async def object(self, url: str) -> bytes | None:
        """A small object in S3, whole; None when there is none. Raises `Unavailable` when it was cut off."""
        parts = urlsplit(url)
        read = partial(self._read, parts.netloc, parts.path.lstrip("/"))
        try:
            return await to_thread.run_sync(read, limiter=self._threads, abandon_on_cancel=True)
        except AwsRefused as error:
            if error.reason in ("NoSuchKey", "404"):
                return None
            if error.reason in BUSY:
                raise Unavailable(error.detail) from error
            raise

    def _read(self, bucket: str, key: str) -> bytes:
        from botocore.exceptions import BotoCoreError

        body = self._account.call("s3", "get_object", Bucket=bucket, Key=key)["Body"]
        try:
            return bytes(body.read())
        except (BotoCoreError, OSError) as error:
            raise Unavailable("an object could not be read whole") from error


def is_gone(error: AwsRefused) -> bool:
    """Whether AWS refused because the thing is not there; each service has its own words."""
    if error.reason in ("ObjectNotFoundException", "ResourceNotFound", "ResourceNotFoundException"):
        return True
    said = error.detail.lower()
    return error.reason in ("ValidationException", "ValidationError") and any(word in said for word in GONE)
