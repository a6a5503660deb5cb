"""Where in AWS everything is, and what it is called there."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from cloudbrush.domain.errors import InvalidInput

VARIANT = "main"  # each endpoint has one
LONGEST_NAME = 63  # characters SageMaker allows


@dataclass(frozen=True)
class Place:
    """What the account's stack gave, and whose endpoints these are."""

    region: str
    blobs_url: str  # s3://bucket, and a prefix where there is one
    worker_role_arn: str
    success_topic_arn: str
    error_topic_arn: str
    queue_url: str
    image_uri: str | None  # not pushed yet when None
    name_prefix: str  # of everything the roles may reach
    control_plane: str  # its id, in the tags

    def endpoint(self, name: str) -> str:
        """What SageMaker calls the endpoint, its model and its configuration. Raises `InvalidInput`."""
        full = f"{self.name_prefix}-{name}"
        if len(full) > LONGEST_NAME:
            longest = LONGEST_NAME - len(self.name_prefix) - 1
            raise InvalidInput(f"may have {longest} characters at most in the cloud", field="name")
        return full

    def object(self, key: str) -> dict[str, str]:
        """The object of the blob store as S3 is asked for it."""
        parts = urlsplit(self.blobs_url)
        return {"Bucket": parts.netloc, "Key": f"{parts.path}/{key}".strip("/")}

    def url(self, key: str) -> str:
        """The object as SageMaker is told of it."""
        return "s3://{Bucket}/{Key}".format(**self.object(key))
