"""One AWS account and region, reached by boto3's own chain of credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from threading import Lock
from typing import Any

from cloudbrush.domain.errors import CloudbrushError, InvalidInput, Unavailable

# Where the permission is not called as the operation.
PERMISSIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "DeleteObjects": "s3:DeleteObject",
}
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "AuthorizationError"}
)
STALE = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
    | {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException"}
)
CHAIN = (
    "Cloudbrush takes credentials only from boto3's own chain: the variables AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE) of ~/.aws, `aws sso login`, or the role of the machine."
)


class AwsRefused(CloudbrushError):
    """AWS answered a call with an error; `reason` is AWS's word for it."""

    code = "aws_refused"

    def __init__(self, detail: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.reason = reason


class Denied(AwsRefused):
    """The credentials lack a permission; the hint names it."""

    code = "aws_denied"


class Account:
    """Calls AWS services and speaks of what went wrong in words."""

    def __init__(self, region: str | None = None) -> None:
        """`region` wins over what boto3 finds in environment and profile.

        Raises `InvalidInput` without any, `Unavailable` without boto3 or for an unknown profile.
        """
        self._session = _session(region)
        self._clients: dict[str, Any] = {}
        self._making = Lock()  # a session makes clients in one thread at a time only
        if not self._session.region_name:
            raise InvalidInput(
                "no AWS region is chosen",
                field="region",
                hint="Give --region, or set CLOUDBRUSH_AWS_REGION or AWS_DEFAULT_REGION, such as us-east-1.",
            )
        self.region: str = self._session.region_name

    @cached_property
    def id(self) -> str:
        """The account's number."""
        return str(self.call("sts", "get_caller_identity")["Account"])

    @property
    def has_sagemaker(self) -> bool:
        """Whether SageMaker is known to exist in the region."""
        from botocore.exceptions import UnknownRegionError

        try:
            partition = self._session.get_partition_for_region(self.region)
        except UnknownRegionError:
            return False
        return self.region in self._session.get_available_regions("sagemaker", partition_name=partition)

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """One answer. Raises `Denied`, `AwsRefused`, `Unavailable`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client(service), operation)(**arguments)
        except ClientError as error:
            raise _translated(service, error.operation_name, error.response.get("Error", {})) from error
        except BotoCoreError as error:
            raise _unreachable(error) from error
        return answer

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Every page of an answer that comes in pages. Raises as `call`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield from self._client(service).get_paginator(operation).paginate(**arguments)
        except ClientError as error:
            raise _translated(service, error.operation_name, error.response.get("Error", {})) from error
        except BotoCoreError as error:
            raise _unreachable(error) from error

    def _client(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, InvalidRegionError

        with self._making:
            if service not in self._clients:
                settings = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard"})
                try:
                    self._clients[service] = self._session.client(service, config=settings)
                except InvalidRegionError as error:
                    raise InvalidInput(f"{self.region!r} is no AWS region", field="region") from error
                except (BotoCoreError, ValueError) as error:  # credentials, or an address that is none
                    raise _unreachable(error) from error
            return self._clients[service]


def _session(region: str | None) -> Any:
    try:
        import boto3
    except ImportError as error:
        raise Unavailable(
            "the AWS commands need boto3", hint="Install it: pip install 'cloudbrush[aws]'"
        ) from error
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session(region_name=region)
    except BotoCoreError as error:  # a profile that is not there
        raise _unreachable(error) from error


def _translated(service: str, operation: str, error: dict[str, str]) -> CloudbrushError:
    reason, said = error.get("Code", ""), error.get("Message", "")
    if reason in STALE:
        return Unavailable(f"AWS does not accept the credentials: {said or reason}", hint=CHAIN)
    if reason in DENIED:
        named = re.search(r"not authorized to perform: ([\w-]+:\w+)", said)
        permission = named[1] if named else PERMISSIONS.get(operation, f"{service}:{operation}")
        return Denied(
            f"AWS denied {operation}: {said or reason}",
            reason=reason,
            hint=f"Ask your administrator for the permission {permission}.",
        )
    return AwsRefused(f"AWS refused {operation}: {said or reason}", reason=reason)


def _unreachable(error: Exception) -> CloudbrushError:
    from botocore import exceptions

    credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.ProfileNotFound,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
    )
    if isinstance(error, credentials):
        return Unavailable(f"there are no AWS credentials: {error}", hint=CHAIN)
    if isinstance(error, exceptions.ParamValidationError):
        return InvalidInput(str(error))
    return Unavailable(
        f"AWS cannot be reached: {error}", hint="Is the network up, and the region's name right?"
    )
