"""The commands as a person types them, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageStat

pytestmark = pytest.mark.timeout(300)


def cloudbrush(*words: str, data_dir: Path, status: int = 0) -> str:
    """What the command prints; standard error when it is to fail."""
    command = [sys.executable, "-m", "cloudbrush", *words, "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def test_a_prompt_becomes_the_picture_it_tells_of(tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "out.png"
    printed = cloudbrush(
        "txt2img", "a red circle on a blue background", "-o", str(out), "--seed", "1", data_dir=tmp_path
    )
    assert "Inference ID" in printed
    image = Image.open(out)
    assert "a red circle on a blue background\nSteps: 20" in image.text["parameters"]
    width, height = image.size
    corner, middle = width // 8, width // 16
    for x in (0, width - corner):
        for y in (0, height - corner):
            red, green, blue = _mean(image.crop((x, y, x + corner, y + corner)))
            assert blue > 1.3 * max(red, green)
    centre = (width // 2 - middle, height // 2 - middle, width // 2 + middle, height // 2 + middle)
    red, green, blue = _mean(image.crop(centre))
    assert red > 1.3 * max(green, blue)

    listed = cloudbrush("jobs", "list", data_dir=tmp_path)
    job_id = printed.split("Inference ID ")[1].split()[0]
    assert job_id in listed
    assert "succeeded" in listed
    job = json.loads(cloudbrush("jobs", "show", job_id, data_dir=tmp_path))
    assert (job["state"], job["endpoint"]) == ("succeeded", "this-machine")
    again = tmp_path / "again.png"
    cloudbrush("jobs", "save", job_id, "-o", str(again), data_dir=tmp_path)
    assert again.read_bytes() == out.read_bytes()
    cloudbrush("jobs", "delete", job_id, data_dir=tmp_path)
    assert "No jobs yet" in cloudbrush("jobs", "list", data_dir=tmp_path)


def test_the_same_infotext_is_the_same_image_and_can_be_painted_over(tmp_path: Path) -> None:
    first, again, over = (tmp_path / f"{name}.png" for name in ("first", "again", "over"))
    asked = (
        "txt2img",
        "a (red:1.2) circle",
        "-n",
        "stripes",
        "-o",
        str(first),
        "--steps",
        "6",
        "--seed",
        "3",
    )
    cloudbrush(*asked, "--set", "hires.scale=1.5", "--set", "hires.steps=3", data_dir=tmp_path)
    cloudbrush("txt2img", "--from", str(first), "-o", str(again), data_dir=tmp_path)
    assert again.read_bytes() == first.read_bytes()
    assert Image.open(first).size == (192, 192)

    mask = Image.new("L", (192, 192))
    mask.paste(255, (0, 0, 96, 192))
    mask.save(tmp_path / "mask.png")
    painted = ("img2img", str(first), "a blue square", "--mask", str(tmp_path / "mask.png"), "-o", str(over))
    cloudbrush(*painted, "--steps", "6", "--set", "inpainting.blur=0", data_dir=tmp_path)
    right = (96, 0, 192, 192)
    assert Image.open(over).crop(right).tobytes() == Image.open(first).crop(right).tobytes()
    assert "Mask blur" not in Image.open(over).text["parameters"]


def test_the_built_in_model_is_listed_and_old_files_are_counted(tmp_path: Path) -> None:
    printed = cloudbrush("models", data_dir=tmp_path)
    assert "pocket" in printed
    assert "old formats" not in printed
    (tmp_path / "models" / "Lora" / "old.pt").write_bytes(b"PK")
    assert f"models convert {tmp_path / 'models'}" in cloudbrush("models", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("txt2img", "x", "--steps", "0"), "steps"),
        (("txt2img", "x", "--sampler", "Magic"), "there is no sampling method 'Magic'"),
        (("txt2img", "x", "--checkpoint", "dreamy"), "there is no checkpoint called 'dreamy'"),
        (("txt2img", "x", "--endpoint", "nowhere"), "there is no endpoint 'nowhere'"),
        (("jobs", "show", "nothing"), "there is no job nothing"),
        (("endpoints", "resize", "nowhere", "--instances", "2"), "there is no endpoint 'nowhere'"),
        (("endpoints", "deploy", "x", "--instance-type", "ml.g5.xlarge"), "instance_type"),
    ],
)
def test_wrong_input_is_answered_in_words(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    printed = cloudbrush(*words, data_dir=tmp_path, status=1)
    assert complaint in printed
    assert "Traceback" not in printed


def _mean(image: Image.Image) -> tuple[float, ...]:
    return tuple(ImageStat.Stat(image.convert("RGB")).mean)
