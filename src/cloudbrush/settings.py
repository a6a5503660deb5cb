"""Everything configurable: one frozen object, read once from CLOUDBRUSH_* variables and a .env file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names requests may use for this machine."""
        return ("127.0.0.1", "localhost", self.host, *self.host_names)

    @property
    def database_url(self) -> str:
        """Where the records are."""
        return f"sqlite:///{self.data_dir.resolve() / 'cloudbrush.db'}"

    @property
    def blobs_url(self) -> str:
        """Where model files and images are."""
        return (self.data_dir.resolve() / "blobs").as_uri()

    @property
    def models_dir(self) -> Path:
        """Where people put model files, in the WebUI's folders."""
        return self.data_dir.resolve() / "models"

    @property
    def logs_dir(self) -> Path:
        """Where workers write what they print."""
        return self.data_dir.resolve() / "logs"
