"""A bucket as a blob store: where it is, by whose right it is asked, what its errors mean in words.

Region, endpoint and credentials are found as boto3 finds them: environment, profile, role of the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from cloudbrush.domain.errors import CloudbrushError, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Credential

AWS = ".amazonaws.com"
TOKEN_LIFE = timedelta(minutes=10)  # botocore renews its own at the latest ten minutes before they end
PARTS_AT_ONCE = 8  # connections of one upload
NO_CREDENTIALS = (
    "Give them as boto3 takes them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE),"
    " `aws sso login`, or the role of the machine."
)
STALE = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
Doing = Literal["read", "write", "list", "delete"]
PERMISSIONS: dict[Doing, str] = {
    "read": "s3:GetObject",
    "write": "s3:PutObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}


@dataclass(frozen=True)
class Place:
    """What an URL such as `s3://bucket/prefix?region=eu-central-1` names."""

    bucket: str
    prefix: str = ""
    region: str | None = None  # None: boto3's own choice

    @classmethod
    def read(cls, url: str) -> Place:
        """The place an URL names."""
        parts = urlsplit(url)
        region = parse_qs(parts.query).get("region", [None])[0]
        return cls(parts.netloc, parts.path.strip("/"), region)

    def name(self, key: str) -> str:
        """The name a key has in the bucket."""
        return f"{self.prefix}/{key}" if self.prefix else key


@dataclass
class Bucket:
    """One bucket, asked through obstore; what obstore lacks, through boto3's client."""

    place: Place
    _lock: Lock = field(default_factory=Lock)

    def open(self) -> S3Store:
        """The obstore side. Raises `InvalidInput` without region or for an unsafe endpoint, `Unavailable`."""
        endpoint = self._endpoint()
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            raise InvalidInput(
                f"the S3 endpoint {parts.hostname} is asked over plain http",
                field="AWS_ENDPOINT_URL",
                hint="Use https; http is for this machine only.",
            )
        # A dotted name has no certificate as a host of its own; other makes of S3 mostly have no such hosts.
        by_path = not (parts.hostname or "").removesuffix(".cn").endswith(AWS) or "." in self.place.bucket
        return S3Store(
            self.place.bucket,
            prefix=self.place.prefix or None,
            region=self._session.region_name,
            endpoint=endpoint if by_path else f"{parts.scheme}://{self.place.bucket}.{parts.netloc}",
            virtual_hosted_style_request=not by_path,
            credential_provider=self._credentials,
            client_options={
                "allow_http": parts.scheme == "http",
                "connect_timeout": "10s",
                "read_timeout": "30s",  # of silence; a slow line may take long for a large object
                "timeout": "30m",
            },
            retry_config={"max_retries": 5, "retry_timeout": timedelta(minutes=1)},
        )

    @cached_property
    def client(self) -> Any:
        """The boto3 side."""
        from botocore.config import Config

        with self._lock:
            return self._session.client(
                "s3",
                config=Config(
                    connect_timeout=10,
                    read_timeout=60,
                    retries={"mode": "standard", "max_attempts": 6},
                    max_pool_connections=PARTS_AT_ONCE,
                ),
            )

    @cached_property
    def _session(self) -> Any:
        try:
            import boto3
        except ImportError as error:
            raise Unavailable(
                "a bucket needs boto3", hint="Install it: pip install 'cloudbrush[aws]'"
            ) from error
        from botocore.exceptions import BotoCoreError

        try:
            session = boto3.Session(region_name=self.place.region)
        except BotoCoreError as error:  # a profile that is not there
            raise InvalidInput(str(error), field="AWS_PROFILE") from error
        if not session.region_name:
            raise InvalidInput(
                "no AWS region is chosen for the bucket",
                field="CLOUDBRUSH_AWS_REGION",
                hint="Set CLOUDBRUSH_AWS_REGION or AWS_DEFAULT_REGION, for example to us-east-1.",
            )
        return session

    def _endpoint(self) -> str:
        """Where boto3 would ask; made-up keys keep it from looking for real ones, which can take seconds."""
        from botocore.exceptions import BotoCoreError

        try:
            client = self._session.client("s3", aws_access_key_id="none", aws_secret_access_key="none")
        except (BotoCoreError, ValueError) as error:
            raise InvalidInput(str(error), field="AWS_ENDPOINT_URL") from error
        return str(client.meta.endpoint_url)

    def _credentials(self) -> S3Credential:
        with self._lock:
            found = self._session.get_credentials()
        if found is None:
            raise LookupError("no credentials")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + TOKEN_LIFE,
        }


def is_foreign(error: Exception) -> bool:
    """Whether it is an error of obstore or boto3."""
    kinds = (BaseError, FileNotFoundError)  # obstore's word for what is not there
    return isinstance(error, kinds) or type(error).__module__.partition(".")[0] in ("boto3", "botocore")


def translated(error: Exception, doing: Doing, bucket: str, key: str) -> CloudbrushError:
    """A foreign error in words."""
    reason = _reason(error)
    if reason == "NoSuchBucket":
        return Unavailable(
            f"there is no bucket {bucket}",
            field="CLOUDBRUSH_AWS_BUCKET",
            hint="Run `cloudbrush aws up`, or name a bucket that exists.",
        )
    if reason in STALE:
        return Unavailable(f"AWS does not accept the credentials: {reason}", hint=NO_CREDENTIALS)
    if reason in ELSEWHERE:
        return Unavailable(
            f"the bucket {bucket} is in another region", hint="Set CLOUDBRUSH_AWS_REGION to the bucket's own."
        )
    if isinstance(error, PermissionDeniedError) or reason in ("AccessDenied", "403"):
        place = bucket if doing == "list" else f"{bucket}/{key}"
        return Unavailable(
            f"AWS does not allow to {doing} s3://{bucket}/{key}",
            hint=f"Ask your administrator for the permission {PERMISSIONS[doing]} on arn:aws:s3:::{place}.",
        )
    if isinstance(error, UnauthenticatedError) or type(error).__name__ == "NoCredentialsError":
        return Unavailable("there are no AWS credentials", hint=NO_CREDENTIALS)
    if isinstance(error, FileNotFoundError) or reason in ("NoSuchKey", "404"):
        return NotFound(f"there is no object {key}")
    if reason:
        return Unavailable(f"S3 does not {doing} now: {reason}", hint="Try again later.")
    return Unavailable("S3 cannot be reached", hint="Is the network up, and the region's name right?")


def _reason(error: Exception) -> str | None:
    """S3's own word for what went wrong, as far as one came back."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", "")) or None
    if "redirect without LOCATION" in str(error):  # S3 names no address when the region is wrong
        return "PermanentRedirect"
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    found = found or re.search(r"status code: (\d{3}[ \w]*)", str(error))
    return found[1].strip() if found else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
