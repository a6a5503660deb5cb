"""The worker's container image: named after what is in it, built and pushed by Docker."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cloudbrush.aws.account import Account, AwsRefused
from cloudbrush.domain.errors import CloudbrushError, InvalidInput, Unavailable

PLATFORM = "linux/amd64"  # all of SageMaker's GPU instances
# The InferenceAmiVersion its machines need: NVIDIA's driver 580, for the CUDA 13 that torch brings. Without
# it g4dn and g5 have driver 470, on which the container does not start ("GPU drivers", SageMaker AI guide).
HOST = "al2023-ami-sagemaker-inference-gpu-4-1"
# What makes the image what it is: what the Dockerfile copies, and itself.
CONTENT = ("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt")
FOLDER = "src/cloudbrush"
NO_DOCKER = (
    "Install it from https://docs.docker.com/get-docker/ and start it, or run this command where it is: "
    "an EC2 instance or AWS CloudShell with this source tree will do."
)


def tag(source: Path) -> str:
    """The image's tag: the version and a digest of everything that goes in. Raises `InvalidInput`."""
    if not all((source / name).is_file() for name in CONTENT):
        raise InvalidInput(
            f"{source} is not Cloudbrush's source tree",
            field="source",
            hint="Run this where Cloudbrush's Dockerfile is, or say where that is with --source.",
        )
    digest = hashlib.sha256()
    for file in files(source):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(source).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    version = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return f"{version}-{digest.hexdigest()[:12]}"


def is_pushed(account: Account, uri: str) -> bool:
    """Whether ECR has the image. Raises `AwsRefused`."""
    registry, _, name = uri.partition("/")
    repository, _, image_tag = name.rpartition(":")
    try:
        account.call(
            *("ecr", "describe_images"),
            registryId=registry.partition(".")[0],
            repositoryName=repository,
            imageIds=[{"imageTag": image_tag}],
        )
    except AwsRefused as error:
        if error.reason == "ImageNotFoundException":
            return False
        raise
    return True


def build(source: Path, uri: str) -> None:
    """Build the image; Docker's own words go to the terminal. Raises `Unavailable`, `CloudbrushError`."""
    # SageMaker takes a plain image, and no index of images with attestations beside it.
    plain = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    _docker("build", "--platform", PLATFORM, "--tag", uri, str(source), **plain)


def push(account: Account, uri: str) -> None:
    """Push a built image; Docker keeps the password it is given for twelve hours."""
    answer = account.call("ecr", "get_authorization_token")["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    registry = uri.partition("/")[0]
    _docker("login", "--username", user, "--password-stdin", registry, stdin=password)
    _docker("push", uri)


def require_docker() -> str:
    """The docker program. Raises `Unavailable` where there is none."""
    found = shutil.which("docker")
    if found is None:
        raise Unavailable("there is no docker program on this machine's PATH", hint=NO_DOCKER)
    return found


def _docker(*words: str, stdin: str | None = None, **environment: str) -> None:
    done = subprocess.run(
        [require_docker(), *words], input=stdin, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode:
        raise CloudbrushError(
            f"`docker {words[0]}` ended with status {done.returncode}; what it said stands above",
            hint="If its daemon is not running, start Docker and run this again.",
        )


def files(source: Path) -> Iterator[Path]:
    """What makes the image what it is, in one order everywhere."""
    yield from (source / name for name in CONTENT)
    for file in sorted((source / FOLDER).rglob("*")):
        inside = file.relative_to(source / FOLDER).parts
        if file.is_file() and "__pycache__" not in inside and inside[0] != "builtin":
            yield file
