"""What the Dockerfile promises, read from it; and its install steps, run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from cloudbrush.aws import image
from tests.deploy import dockerfile
from tests.deploy.dockerfile import ROOT, Instruction

PREFIX = "/opt/cloudbrush"  # where everything is in the image


@pytest.fixture(scope="module")
def steps() -> list[Instruction]:
    return dockerfile.instructions()


def last(steps: list[Instruction], name: str) -> str:
    return [step.rest for step in steps if step.name == name][-1]


def test_it_stands_on_a_cuda_image_of_one_version(steps: list[Instruction]) -> None:
    (base,) = (step.rest for step in steps if step.name == "FROM")
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.04", base)


def test_the_worker_is_no_root_and_stays_so(steps: list[Instruction]) -> None:
    names = [step.name for step in steps]
    user = last(steps, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # numbers: a name may be anyone's
    assert "RUN" not in names[names.index("USER") :]
    assert "COPY" not in names[names.index("USER") :]


def test_it_listens_where_sagemaker_asks(steps: list[Instruction]) -> None:
    assert last(steps, "EXPOSE") == "8080"
    assert "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in last(steps, "LABEL")
    assert dockerfile.entry_point()[-2:] == ["--host", "0.0.0.0"]


def test_signals_reach_the_worker_itself(steps: list[Instruction]) -> None:
    program = dockerfile.entry_point()  # the exec form, or reading it fails
    assert program[:4] == ["python", "-m", "cloudbrush", "worker"]
    assert last(steps, "CMD") == '["serve"]'  # what SageMaker puts there anyway
    assert not [step for step in steps if step.name == "STOPSIGNAL"]


def test_no_secret_and_no_address_is_baked_in() -> None:
    baked = dockerfile.environment()
    assert not [name for name in baked if name.startswith("AWS_") or "TOKEN" in name or "KEY" in name]
    assert "CLOUDBRUSH_WORKER_BLOBS_URL" not in baked


def test_it_looks_for_no_model_hub_and_compiles_nothing_at_start() -> None:
    baked = dockerfile.environment()
    assert baked["HF_HUB_OFFLINE"] == "1"
    assert baked["PYTHONDONTWRITEBYTECODE"] == "1"


def test_what_it_writes_is_below_the_one_folder_that_can_be_written() -> None:
    baked = dockerfile.environment()
    assert baked["TMPDIR"] == "/tmp"
    assert Path(baked["CLOUDBRUSH_WORKER_CACHE_DIR"]).is_relative_to("/tmp")


def test_large_layers_come_before_our_code(steps: list[Instruction]) -> None:
    order = [step for step in steps if step.name in ("RUN", "COPY")]
    install = next(n for n, step in enumerate(order) if step.rest.startswith("pip install"))
    ours = next(n for n, step in enumerate(order) if step.name == "COPY" and "src" in step.rest.split())
    assert install < ours
    assert "--constraint constraints.txt" in order[install].rest


def seen_by_docker(path: str) -> bool:
    """Whether Docker sends the file to its builder: the last line of .dockerignore that fits decides."""
    seen = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if pattern.startswith("**/"):
            fits = any(fnmatchcase(part, pattern[3:]) for part in Path(path).parts)
        else:
            parts = Path(path).parts[: len(Path(pattern).parts)]
            fits = fnmatchcase(str(Path(*parts)), pattern)
        if fits:
            seen = line.startswith("!")
    return seen


def test_docker_sees_what_the_tag_tells_of_and_no_model() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen = {name for name in listed.stdout.splitlines() if seen_by_docker(name)}
    assert {"constraints.txt", "src/cloudbrush/worker/app.py"} <= seen
    assert not [name for name in seen if name.endswith(".safetensors") or name.startswith("tests/")]
    told = {str(file.relative_to(ROOT)) for file in image.files(ROOT)}
    assert seen | {"Dockerfile", ".dockerignore"} == told


@pytest.mark.slow  # it installs everything a worker stands on, torch among it
@pytest.mark.timeout(1800)
def test_its_install_steps_make_a_worker_that_starts(steps: list[Instruction], tmp_path: Path) -> None:
    home = tmp_path / "image"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for step in steps:
        if step.name == "COPY":
            copy(step, home)
        elif step.name == "ENV":
            environment |= there(step, home, environment["PATH"])
        elif step.name == "RUN" and not step.rest.startswith("apt-get"):
            words = step.rest.replace("python3 ", f"{sys.executable} ", 1)
            done = subprocess.run(
                words, shell=True, cwd=home, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    program = shutil.which("python", path=environment["PATH"])
    assert program == str(home / "bin/python")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        started = subprocess.run(
            [program, *dockerfile.entry_point()[1:], "serve"],
            env={
                **environment,
                "CLOUDBRUSH_WORKER_BLOBS_URL": "s3://b?region=eu-central-1",
                "SAGEMAKER_BIND_TO_PORT": port,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
    # It comes as far as its port, which here is taken.
    assert f"port {port} of 0.0.0.0 cannot be used" in started.stderr, started.stderr


def copy(step: Instruction, home: Path) -> None:
    *names, target = step.rest.split()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, home / target, ignore=shutil.ignore_patterns("builtin", "__pycache__")
            )
        else:
            shutil.copy(ROOT / name, home / target)


def there(step: Instruction, home: Path, path: str) -> dict[str, str]:
    """The variables of one ENV, for an image that lies in `home`."""
    rest = step.rest.replace("$PATH", path).replace(PREFIX, str(home))
    return dict(word.split("=", 1) for word in rest.split())
