"""Everything configurable: one frozen object, read once from CLOUDBRUSH_* variables and a .env file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DATABASES = ("sqlite", "postgresql", "postgres")
BLOB_STORES = ("file", "s3")


def _blobs(given: dict[str, Any]) -> str:
    if not given["aws_bucket"]:
        directory: Path = given["data_dir"].resolve() / "blobs"
        return directory.as_uri()
    region = f"?region={given['aws_region']}" if given["aws_region"] else ""
    return f"s3://{given['aws_bucket']}{region}"


def _database(given: dict[str, Any]) -> str:
    return f"sqlite:///{given['data_dir'].resolve() / 'cloudbrush.db'}"


class Settings(BaseSettings):
    """How one control plane is set up; the command line overrides the environment."""

    model_config = SettingsConfigDict(
        env_prefix="CLOUDBRUSH_", env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore"
    )

    data_dir: Path = Field(default=Path("data"), description="holds the database, blobs, models and logs")
    host: str = Field(
        default="127.0.0.1", description="address to listen on; there is no login yet: keep it local"
    )
    port: int = Field(default=7860, ge=0, le=65535, description="0 takes any free port")
    host_names: tuple[str, ...] = Field(default=(), description="further names it answers to, as a JSON list")
    lease_seconds: float = Field(default=30, gt=0, description="silence that means a worker is lost")
    run_seconds: float = Field(default=15 * 60, gt=0, description="longest run of one attempt")
    queue_seconds: float = Field(default=6 * 3600, gt=0, description="longest wait in the queue")

    aws_region: str | None = Field(default=None, description="where endpoints in the cloud run")
    aws_bucket: str | None = Field(default=None, description="the bucket of models and images")
    aws_worker_role_arn: str | None = Field(default=None, description="what workers in the cloud may do")
    aws_success_topic_arn: str | None = Field(default=None, description="where results are announced")
    aws_error_topic_arn: str | None = Field(default=None, description="where failures are announced")
    aws_queue_url: str | None = Field(default=None, description="where both are heard")
    aws_image_uri: str | None = Field(default=None, description="the image that workers in the cloud run")
    aws_name_prefix: str = Field(
        default="cloudbrush",
        pattern=r"^[a-z0-9](-?[a-z0-9]){0,30}$",
        description="what the names of endpoints in the cloud begin with",
    )

    blobs_url: str = Field(default_factory=_blobs, description="model files and images: file:// or s3://")
    database_url: str = Field(
        default_factory=_database, description="the records: sqlite:/// or postgresql://", repr=False
    )

    @field_validator("blobs_url")
    @classmethod
    def _is_a_blob_store(cls, url: str) -> str:
        place = urlsplit(url)
        if place.scheme not in BLOB_STORES or (place.scheme == "s3" and not place.netloc):
            raise ValueError("CLOUDBRUSH_BLOBS_URL must be file:///directory or s3://bucket/prefix")
        if place.scheme == "file" and (place.netloc or not place.path):
            raise ValueError("CLOUDBRUSH_BLOBS_URL must name a directory of this machine: file:///directory")
        return url

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str) -> str:
        scheme, _, place = url.partition("://")  # what may stand in it: a password
        if scheme not in DATABASES or not place:
            raise ValueError(
                "CLOUDBRUSH_DATABASE_URL must be sqlite:///file or postgresql://user:password@host/name"
            )
        return url.replace("postgres://", "postgresql://", 1) if scheme == "postgres" else url

    @property
    def uses_aws(self) -> bool:
        """Whether something in an AWS account is named; a region alone may be meant for later."""
        return any((self.aws_bucket, self.aws_worker_role_arn, self.aws_queue_url, self.aws_image_uri))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names requests may use for this machine."""
        return ("127.0.0.1", "localhost", self.host, *self.host_names)

    @property
    def models_dir(self) -> Path:
        """Where people put model files, in the WebUI's folders."""
        return self.data_dir.resolve() / "models"

    @property
    def logs_dir(self) -> Path:
        """Where workers write what they print."""
        return self.data_dir.resolve() / "logs"
