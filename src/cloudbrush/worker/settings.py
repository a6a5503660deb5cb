"""How one worker is set up: a frozen object, read once from CLOUDBRUSH_WORKER_*."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """What a worker process needs to know; a container gets it through its environment."""

    model_config = SettingsConfigDict(env_prefix="CLOUDBRUSH_WORKER_", frozen=True, extra="ignore")

    blobs_url: str = Field(description="where model files are read from and images written to")
    cache_dir: Path = Field(
        default=Path("/tmp/cloudbrush-models"), description="models fetched from far blobs"
    )
    cache_bytes: int = Field(default=50 * 2**30, ge=0, description="how much the cache may hold")
    model_dir: Path = Field(
        default=Path("/opt/ml/model"), description="models that are there already, as SageMaker delivers them"
    )
    device: str | None = Field(default=None, description="cuda, mps or cpu; the best there is by default")
