"""A control plane as a process of its own whose only endpoint `gpu` is in the cloud."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import uvicorn

from cloudbrush.client import Client
from cloudbrush.settings import Settings
from cloudbrush.wiring import control_plane
from tests import moto_server
from tests.providers.sagemaker.cloud import GLANCE, IMAGE, PATIENCE, ROLE, Cloud


class CloudProgram:
    """Starts it, kills it, starts it again: always on one data directory, on one port."""

    def __init__(self, cloud: Cloud, data_dir: Path, port: int, **settings: str) -> None:
        self._data_dir = data_dir
        self._process: psutil.Popen | None = None
        self._environment = {
            **os.environ,
            **{f"CLOUDBRUSH_{name}": value for name, value in settings.items()},
            "CLOUDBRUSH_DATA_DIR": str(data_dir),
            "CLOUDBRUSH_PORT": str(port),
            "CLOUDBRUSH_AWS_REGION": moto_server.ENVIRONMENT["AWS_DEFAULT_REGION"],
            "CLOUDBRUSH_AWS_BUCKET": cloud.blobs_url.removeprefix("s3://"),
            "CLOUDBRUSH_AWS_WORKER_ROLE_ARN": ROLE,
            "CLOUDBRUSH_AWS_SUCCESS_TOPIC_ARN": cloud.topics["success"],
            "CLOUDBRUSH_AWS_ERROR_TOPIC_ARN": cloud.topics["error"],
            "CLOUDBRUSH_AWS_QUEUE_URL": cloud.queue_url,
            "CLOUDBRUSH_AWS_IMAGE_URI": IMAGE,
            "CLOUDBRUSH_AWS_NAME_PREFIX": "brush",
        }
        self.url = f"http://127.0.0.1:{port}"

    def upload(self, model: str) -> None:
        """Put one of its models into the cloud."""
        command = [sys.executable, "-m", "cloudbrush", "models", "upload", model]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    async def start(self) -> None:
        """Return once it answers."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.providers.sagemaker.cloud_program"]
        with (self._data_dir / "server.log").open("ab") as log:
            self._process = psutil.Popen(command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)
        async with asyncio.timeout(PATIENCE), Client(self.url) as client:
            while True:
                assert self._process.poll() is None, self.log()
                try:
                    await client.endpoints()
                    return
                except Exception:
                    await asyncio.sleep(GLANCE)

    def kill(self) -> None:
        """kill -9; the process is gone when this returns."""
        if self._process and self._process.is_running():
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """The last of what it printed."""
        return (self._data_dir / "server.log").read_text()[-4000:]


if __name__ == "__main__":
    settings = Settings()
    app = control_plane(settings, endpoints=frozenset({"gpu"}))
    uvicorn.run(app, host="127.0.0.1", port=settings.port, log_level="warning")
