"""Prompts to text-encoder output."""

from __future__ import annotations

import pytest
import torch

from cloudbrush.domain import tokens
from cloudbrush.engine.conditioning import TextEncoding, emphasise
from cloudbrush.engine.events import Cancelled, ModelFile
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.models.single_file import load_single_file


@pytest.fixture(scope="module")
def checkpoint(tiny: ModelFile) -> Checkpoint:
    return load_single_file(tiny.path, name="tiny", sha256="", placement=Placement(torch.device("cpu")))


@pytest.fixture
def texts(checkpoint: Checkpoint) -> TextEncoding:
    return TextEncoding(checkpoint)


@torch.inference_mode()
def hidden(checkpoint: Checkpoint, text: str) -> torch.Tensor:
    """The plain encoder output of each chunk of a text, (chunks, 77, width)."""
    chunks = tokens.tokenize(text).chunks
    return checkpoint.text_encoder(input_ids=torch.tensor([c.tokens for c in chunks])).last_hidden_state


def test_an_unweighted_prompt_is_the_encoders_plain_output(
    texts: TextEncoding, checkpoint: Checkpoint
) -> None:
    encoded = texts.encode(["a cat"]).vectors["a cat"]
    torch.testing.assert_close(encoded, hidden(checkpoint, "a cat")[0], rtol=0, atol=0)


def test_chunks_are_encoded_alone_and_joined(texts: TextEncoding, checkpoint: Checkpoint) -> None:
    (encoded,) = texts.encode(["a cat BREAK a dog"]).vectors.values()
    expected = torch.cat([hidden(checkpoint, "a cat")[0], hidden(checkpoint, "a dog")[0]])
    torch.testing.assert_close(encoded, expected, rtol=1e-5, atol=1e-5)


def test_weights_scale_tokens_and_the_mean_is_restored(texts: TextEncoding, checkpoint: Checkpoint) -> None:
    (encoded,) = texts.encode(["a (cat:1.5)"]).vectors.values()
    plain = hidden(checkpoint, "a cat")[0]
    expected = plain.clone()
    expected[2] *= 1.5  # start, a, cat
    expected *= plain.mean() / expected.mean()
    torch.testing.assert_close(encoded, expected, rtol=1e-5, atol=1e-6)


def test_variants_are_as_long_as_the_longest_and_share_one_mean(
    texts: TextEncoding, checkpoint: Checkpoint
) -> None:
    short, long = texts.encode(["(cat:2)", "dog BREAK bird"]).vectors.values()
    plain = torch.stack([hidden(checkpoint, "cat")[0], hidden(checkpoint, "dog")[0]])
    weighted = plain.clone()
    weighted[0, 1] *= 2
    weighted *= plain.mean() / weighted.mean()
    torch.testing.assert_close(torch.stack([short[:77], long[:77]]), weighted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(short[77:], hidden(checkpoint, "")[0], rtol=1e-5, atol=1e-6)


def test_a_mean_of_zero_leaves_the_weighted_vectors(texts: TextEncoding) -> None:
    vectors = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    emphasised = emphasise(vectors, torch.tensor([[1.0, 0.5]]), torch.ones(1))
    torch.testing.assert_close(emphasised, torch.tensor([[[1.0, -1.0], [1.0, -1.0]]]))


def test_results_are_kept(texts: TextEncoding) -> None:
    assert texts.encode(["a cat"]) is texts.encode(["a cat"])


def test_encoding_can_be_ended_between_its_pieces(texts: TextEncoding) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        texts.encode(["x " * 75 * 10], check)
    assert calls == 3
    (encoded,) = texts.encode(["x " * 75 * 10]).vectors.values()
    assert len(encoded) == 770  # and asked again, all of it comes
