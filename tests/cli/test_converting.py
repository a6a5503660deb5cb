"""`cloudbrush models convert`, as a person types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORD = torch.arange(768.0)


def convert(*words: str | Path, status: int = 0) -> str:
    """What the command prints, on both ways out."""
    command = [sys.executable, "-m", "cloudbrush", "models", "convert", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_folder_is_converted_once_and_what_is_refused_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    torch.save({"<cat>": WORD}, tmp_path / "cat.bin")
    torch.save({"<dog>": WORD}, tmp_path / "inner" / "dog.pt")
    (tmp_path / "bad.ckpt").write_bytes(b"\x80\x02cos\nsystem\n.")
    (tmp_path / "notes.txt").write_text("not a model")
    printed = convert(tmp_path, status=1)
    assert f"{tmp_path / 'cat.safetensors'}: an embedding" in printed
    assert "bad.ckpt: it asks for os.system" in printed
    assert load_file(tmp_path / "inner" / "dog.safetensors")["emb_params"].equal(WORD)
    assert not (tmp_path / "bad.safetensors").exists()
    (tmp_path / "bad.ckpt").unlink()
    assert "Nothing to convert" in convert(tmp_path)


def test_the_new_file_may_go_elsewhere_and_what_it_is_may_be_asked_for(tmp_path: Path) -> None:
    torch.save({"<cat>": WORD}, tmp_path / "cat.pt")
    convert(tmp_path / "cat.pt", "--to", tmp_path / "new", "--kind", "embedding")
    assert (tmp_path / "new" / "cat.safetensors").exists()
    printed = convert(tmp_path / "cat.pt", "--kind", "lora", status=1)
    assert "it is an embedding; a LoRA was expected" in printed
    assert "is there already" in convert(tmp_path / "cat.pt", "--to", tmp_path / "new", status=1)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nothing.ckpt",), "nothing.ckpt is not there"),
        (("x.pt", "--kind", "song"), "there is no kind 'song'"),
    ],
)
def test_wrong_input_is_answered_in_words(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    assert complaint in convert(*words, status=1)
