"""Fields of a generation from the command line: options, `--set`, and what an image tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudbrush.cli import fields
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.domain.generation import Txt2Img

INFOTEXT = (
    "a cat\nNegative prompt: dog\n"
    "Steps: 7, Sampler: Euler a, CFG scale: 5, Seed: 3, Size: 64x128, Clip skip: 2"
)


def told(tmp_path: Path) -> Path:
    path = tmp_path / "parameters.txt"
    path.write_text(INFOTEXT)
    return path


def test_a_text_file_with_parameters_is_a_generation(tmp_path: Path) -> None:
    asked = Txt2Img(**fields.chosen({}, [], told(tmp_path)))
    assert (asked.prompt, asked.negative_prompt, asked.steps, asked.sampler) == ("a cat", "dog", 7, "Euler a")
    assert (asked.width, asked.height, asked.seed, asked.clip_skip) == (64, 128, 3, 2)


def test_what_is_asked_for_goes_first(tmp_path: Path) -> None:
    asked = fields.chosen({"steps": 9, "seed": None}, ["cfg_scale=2", "hires.scale=1.5"], told(tmp_path))
    generation = Txt2Img(**asked)
    assert (generation.steps, generation.seed, generation.cfg_scale) == (9, 3, 2.0)
    assert generation.hires
    assert generation.hires.scale == 1.5


@pytest.mark.parametrize("pair", ["scale", "=2", "hires.=2", "prompt.x=1"])
def test_a_pair_that_is_none_is_refused(pair: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        fields.chosen({"prompt": "a cat"}, [pair])
    assert refused.value.field == "--set"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b""])
def test_a_file_without_parameters_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        fields.told_by(path)
    assert refused.value.field == "--from"


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        fields.bytes_of(tmp_path / "gone.png", "image")
