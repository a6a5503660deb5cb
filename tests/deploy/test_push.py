"""`cloudbrush aws push`: which image is built, how Docker is called, and what a person is told.

Docker's place is taken by a program that writes down how it was called; the registry is moto's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from cloudbrush.aws import image
from cloudbrush.aws.account import Account
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.settings import Settings
from tests.deploy.commands import run, up
from tests.deploy.dockerfile import ROOT

DOCKER = """#!/bin/sh
echo "$*" >> "$DOCKER_CALLS"
echo "BUILDX_NO_DEFAULT_ATTESTATIONS=$BUILDX_NO_DEFAULT_ATTESTATIONS" >> "$DOCKER_CALLS"
if [ "$1" = login ]; then echo "password: $(cat)" >> "$DOCKER_CALLS"; fi
[ "$1" != "$DOCKER_FAILS_AT" ]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """As much of the source tree as an image is made of."""
    tree = tmp_path / "source"
    for file in image.files(ROOT):
        target = tree / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tree


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a stand-in for Docker's program notes its calls."""
    program, calls = tmp_path / "bin/docker", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CALLS", str(calls))
    return calls


@pytest.fixture
def repository(cloud: None, account: Account) -> str:
    """The address of the repository of a stack that is up."""
    up()
    (found,) = account.call("ecr", "describe_repositories")["repositories"]
    return str(found["repositoryUri"])


def put_image(account: Account, tag: str) -> None:
    """An image as a registry keeps it."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": f"sha256:{hashlib.sha256(b'').hexdigest()}", "size": 1, "mediaType": "x"},
        "layers": [],
    }
    account.call(
        *("ecr", "put_image"),
        repositoryName="cloudbrush",
        imageManifest=json.dumps(manifest),
        imageTag=tag,
    )


def test_it_builds_for_sagemakers_machines_logs_in_and_pushes(
    account: Account, repository: str, docker: Path, source: Path
) -> None:
    said = run("push", "--source", str(source))
    assert said.status == 0, said.text
    uri = f"{repository}:{image.tag(source)}"
    token = account.call("ecr", "get_authorization_token")["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).decode().partition(":")[2]
    assert docker.read_text().splitlines() == [
        f"build --platform linux/amd64 --tag {uri} {source}",
        "BUILDX_NO_DEFAULT_ATTESTATIONS=1",
        f"login --username AWS --password-stdin {repository.partition('/')[0]}",
        "BUILDX_NO_DEFAULT_ATTESTATIONS=",
        f"password: {password}",
        f"push {uri}",
        "BUILDX_NO_DEFAULT_ATTESTATIONS=",
    ]
    assert Settings().aws_image_uri == uri


def test_an_image_that_is_there_is_not_built_again(
    account: Account, repository: str, docker: Path, source: Path
) -> None:
    put_image(account, image.tag(source))
    said = run("push", "--source", str(source))
    assert said.status == 0, said.text
    assert "nothing to build" in said.text
    assert not docker.exists()
    assert Settings().aws_image_uri == f"{repository}:{image.tag(source)}"
    assert "CLOUDBRUSH_AWS_IMAGE_URI" in run("status").text


def test_status_knows_an_image_that_is_pushed_from_one_that_is_not(
    account: Account, repository: str, docker: Path, source: Path
) -> None:
    run("push", "--source", str(source))
    line = next(line for line in run("status").text.splitlines() if "AWS_IMAGE_URI" in line)
    assert "there is no image" in line  # Docker's stand-in pushed none
    put_image(account, image.tag(source))
    line = next(line for line in run("status").text.splitlines() if "AWS_IMAGE_URI" in line)
    assert line.rstrip().endswith("ok")


@pytest.mark.parametrize("step", ["build", "login", "push"])
def test_when_docker_fails_nothing_is_written_and_its_status_is_told(
    repository: str, docker: Path, source: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_FAILS_AT", step)
    said = run("push", "--source", str(source))
    assert said.status == 1
    assert f"`docker {step}` ended with status 1" in said.text
    assert Settings().aws_image_uri is None


def test_without_docker_it_says_where_to_get_it_or_where_to_run(
    repository: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = run("push", "--source", str(source))
    assert said.status == 1
    assert "https://docs.docker.com/get-docker/" in said.text
    assert "CloudShell" in said.text


def test_without_the_source_tree_it_says_what_is_missing(repository: str, docker: Path) -> None:
    said = run("push")
    assert said.status == 1
    assert "--source" in said.text
    assert not docker.exists()


def test_before_up_it_says_so(cloud: None, docker: Path, source: Path) -> None:
    said = run("push", "--source", str(source), "--region", "eu-central-1")
    assert said.status == 1
    assert "`cloudbrush aws up` makes one" in said.text


def test_the_tag_is_the_version_and_the_content(source: Path) -> None:
    first = image.tag(source)
    assert first.startswith("0.1.0-")
    assert image.tag(source) == first
    (source / "src/cloudbrush/__pycache__").mkdir(exist_ok=True)
    (source / "src/cloudbrush/__pycache__/a.pyc").write_bytes(b"x")
    (source / "README.md").write_text("elsewhere")
    assert image.tag(source) == first
    with (source / "src/cloudbrush/__init__.py").open("a") as file:
        file.write("# changed\n")
    assert image.tag(source) != first


def test_a_file_that_moves_changes_the_tag(source: Path) -> None:
    first = image.tag(source)
    (source / "src/cloudbrush/settings.py").rename(source / "src/cloudbrush/other.py")
    assert image.tag(source) != first


def test_a_tag_is_one_docker_takes(source: Path) -> None:
    assert image.tag(source).replace("-", "").replace(".", "").isalnum()
    assert len(image.tag(source)) <= 128  # OCI Distribution Specification


def test_a_folder_that_is_no_source_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        image.tag(tmp_path)
    assert caught.value.field == "source"
