"""Textual inversions: files, pictures, words in prompts, vectors in the text encoder."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from cloudbrush.domain import embedding_picture
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.networks.embedding import Embedding, Slot, inserted, read_embedding
from tests.engine.conftest import Shape
from tests.engine.networks.files import rand, write

VECTORS = [[0.5, -1.25, 2.0], [1e-3, 0.0, -7.5]]
CONTENT = {"string_to_param": {"*": {"TORCHTENSOR": VECTORS}}, "name": "cat-toy", "step": 500}


def test_one_tensor_of_any_name(tmp_path: Path) -> None:
    for key in ("emb_params", "<cat>"):
        file = write(tmp_path / "word.safetensors", {key: rand(2, 768).half()})
        embedding = read_embedding(file)
        assert (embedding.name, embedding.count, embedding.widths) == ("word", 2, (768,))
        assert embedding.vectors[0].equal(rand(2, 768).half().float())
        assert embedding.shorthash == file.sha256[:12]
    assert read_embedding(write(tmp_path / "flat.safetensors", {"emb_params": rand(8)})).count == 1


def test_sdxls_pair(tmp_path: Path) -> None:
    file = write(tmp_path / "xl.safetensors", {"clip_g": rand(4, 1280), "clip_l": rand(4, 768)})
    embedding = read_embedding(file)
    assert (embedding.count, embedding.widths) == (4, (768, 1280))
    embedding.check_widths((768, 1280))
    with pytest.raises(ModelFileError, match=r"is for SDXL \(768 and 1280 wide\); the checkpoint is SD1"):
        embedding.check_widths((768,))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"emb_params": rand(76, 8)}, "76 vectors; 75 fit"),
        ({"emb_params": rand(2, 2, 2)}, r"emb_params of the embedding 'x' has the shape \(2, 2, 2\)"),
        ({"emb_params": torch.empty(0, 8)}, "has the shape"),
        ({"clip_l": rand(2, 8), "clip_g": rand(3, 8)}, "not as many vectors"),
        ({"emb_params": torch.ones(2, 8).int()}, "stored as I32"),
        ({"lora_unet_x.lora_up.weight": rand(2), "b": rand(2)}, "this is a LoRA; an embedding"),
        ({"decoder.conv_in.weight": rand(2), "b": rand(2)}, "this is a VAE"),
    ],
)
def test_other_files_are_refused(tensors: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_embedding(write(tmp_path / "x.safetensors", tensors))


def test_pickles_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"string_to_param": {"*": rand(2, 8)}}, path)
    with pytest.raises(ModelFileError, match="a pickle") as refused:
        read_embedding(ModelFile("x", path, ""))
    assert "convert" in str(refused.value.hint)


def chunked(path: Path, content: Any) -> ModelFile:
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(content).encode()).decode())
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return ModelFile(path.stem, path, "")


def test_a_png_with_a_text_chunk(tmp_path: Path) -> None:
    embedding = read_embedding(chunked(tmp_path / "x.png", CONTENT))
    assert embedding.name == "cat-toy"
    assert embedding.vectors[0].equal(torch.tensor(VECTORS))
    assert len(embedding.shorthash) == 12
    for name in (None, 3, "", "a\nb", "x" * 101):
        assert read_embedding(chunked(tmp_path / "y.png", {**CONTENT, "name": name})).name == "y"


@pytest.mark.parametrize(
    "content",
    [
        [], {}, 3, {"string_to_param": {}}, {"string_to_param": {"*": {"TORCHTENSOR": [[1], [1, 2]]}}},
        {"string_to_param": {"*": {"TORCHTENSOR": "abc"}}}, {"string_to_param": {"*": [["x"]]}},
        {"string_to_param": {"*": {}}}, {"string_to_param": {"*": {"TORCHTENSOR": [[[1.0]]]}}},
    ],
)  # fmt: skip
def test_broken_pictures_are_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        read_embedding(chunked(tmp_path / "x.png", content))


def drawn(content: Any, width: int = 20, height: int = 16) -> Image.Image:
    """A picture between two bars, as the specification describes them."""
    packed = np.frombuffer(zlib.compress(json.dumps(content).encode()), np.uint8)
    columns = -(-len(packed) // (height * 3))
    padded = np.resize(packed, height * columns * 3)
    stream, state = [], 0
    for _ in padded:
        state = (1664525 * state + 1013904223) % 2**32
        stream.append(state % 255 & 15)
    rng = np.random.default_rng(0)
    bars = []
    for nibbles in (padded & 15, padded >> 4):
        style = rng.integers(1, 15, len(padded)) << 4  # what makes the bars look like something
        bars.append((nibbles ^ np.array(stream) | style).reshape(height, columns, 3).astype(np.uint8))
    picture = rng.integers(1, 255, (height, width, 3)).astype(np.uint8) | 1
    black = np.zeros((height, 1, 3), np.uint8)
    pixels = np.concatenate([bars[0], black, picture, black, bars[1]], axis=1)
    return Image.fromarray(np.pad(pixels, ((3, 2), (4, 5), (0, 0))))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_picture_with_drawn_bars(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    drawn(CONTENT).save(path, lossless=True)
    embedding = read_embedding(ModelFile("x", path, ""))
    assert embedding.name == "cat-toy"
    assert embedding.vectors[0].equal(torch.tensor(VECTORS))


def test_plain_cut_and_giant_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    for picture in (Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red"), drawn(3)):
        picture.save(path)
        with pytest.raises(ModelFileError):
            read_embedding(ModelFile("x", path, ""))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ModelFileError):
        read_embedding(ModelFile("x", path, ""))
    monkeypatch.setattr(embedding_picture, "MAX_JSON", 20)
    drawn(CONTENT).save(path)
    with pytest.raises(ModelFileError):
        read_embedding(ModelFile("x", path, ""))
    monkeypatch.setattr(embedding_picture, "MAX_PIXELS", 20)
    with pytest.raises(ModelFileError, match="too many"):
        read_embedding(ModelFile("x", path, ""))


def word(name: str, vectors: int = 1) -> Embedding:
    return Embedding(name, (rand(vectors, 8),), "")


@torch.no_grad()
def test_vectors_take_the_place_of_token_embeddings_before_positions_are_added() -> None:
    """Writing the vectors into rows of the vocabulary, and those rows' ids into the prompt, is the same."""
    text = Shape().modules()[2]
    embedding = word("w", vectors=3)
    ids = torch.randint(1000, 2000, (2, 77), generator=torch.Generator().manual_seed(0))
    table = text.embeddings.token_embedding
    with inserted(table, [Slot(1, 10, embedding)]):
        ours = text(input_ids=ids).last_hidden_state
    plain = text(input_ids=ids).last_hidden_state
    table.weight[500:503] = embedding.vectors[0]
    ids[1, 10:13] = torch.arange(500, 503)
    torch.testing.assert_close(ours, text(input_ids=ids).last_hidden_state)
    assert not ours.allclose(plain)
    assert ours[0].equal(plain[0])


@torch.no_grad()
def test_a_wrong_width_is_refused_and_leaves_no_trace() -> None:
    text = Shape().modules()[2]
    ids = torch.zeros(1, 77, dtype=torch.long)
    before = text(input_ids=ids).last_hidden_state
    wide = Embedding("w", (rand(1, 9),), "")
    with (
        pytest.raises(ModelFileError, match="9 wide"),
        inserted(text.embeddings.token_embedding, [Slot(0, 1, wide)]),
    ):
        text(input_ids=ids)
    assert text(input_ids=ids).last_hidden_state.equal(before)
