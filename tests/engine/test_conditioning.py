"""Prompts to text-encoder output."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cloudbrush.domain import tokens
from cloudbrush.engine.conditioning import Reader, TextEncoding, emphasise
from cloudbrush.engine.events import Cancelled, ModelFile
from cloudbrush.engine.extras import PLAIN
from cloudbrush.engine.guidance import Condition
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.models.single_file import load_single_file
from tests.engine.conftest import save
from tests.engine.tiny_families import FAMILIES, weights_of


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
    return checkpoint.text[0].module(input_ids=torch.tensor([c.tokens for c in chunks])).last_hidden_state


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


@pytest.mark.parametrize(
    ("emphasis", "weighted", "text"),
    [
        ("No norm", True, "a (cat:1.5)"),
        ("Ignore", False, "a (cat:1.5)"),
        ("None", False, "a (cat:1.5)"),
    ],
)
def test_other_ways_to_emphasise(
    texts: TextEncoding, checkpoint: Checkpoint, emphasis: str, weighted: bool, text: str
) -> None:
    """Specification 2.1 and 2.4: only multiply; parse but drop the weights; do not parse at all."""
    (encoded,) = texts.encode([text], emphasis=emphasis).vectors.values()
    if emphasis == "None":
        ids = [tokens.START, *tokens.encode(text)]
        expected = (
            checkpoint.text[0]
            .module(input_ids=torch.tensor([ids + [tokens.END] * (77 - len(ids))]))
            .last_hidden_state[0]
        )
    else:
        expected = hidden(checkpoint, "a cat")[0].clone()
        expected[2] *= 1.5 if weighted else 1.0
    torch.testing.assert_close(encoded, expected, rtol=1e-5, atol=1e-6)


def test_a_break_is_text_where_nothing_is_parsed(texts: TextEncoding) -> None:
    assert [
        len(texts.encode(["a BREAK b"], emphasis=mode).vectors["a BREAK b"]) for mode in ("Ignore", "None")
    ] == [
        154,
        77,
    ]


def test_the_mean_is_restored_in_each_chunk_alone(texts: TextEncoding, checkpoint: Checkpoint) -> None:
    (encoded,) = texts.encode(["(a:1.3) BREAK b"]).vectors.values()
    first, second = hidden(checkpoint, "a BREAK b")
    weighted = first.clone()
    weighted[1] *= 1.3
    torch.testing.assert_close(encoded[:77], weighted * first.mean() / weighted.mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoded[77:], second, rtol=1e-5, atol=1e-6)


def test_a_reading_that_comes_again_counts_again_for_the_mean(
    texts: TextEncoding, checkpoint: Checkpoint
) -> None:
    """All periods of a prompt are one batch (specification 2.4), `[(a:2)|b]` over three steps is a, b, a."""
    encoded = texts.encode(["(a:2)", "b", "(a:2)"]).vectors
    plain = torch.stack([hidden(checkpoint, text)[0] for text in ("a", "b", "a")])
    weighted = plain.clone()
    weighted[0::2, 1] *= 2
    expected = weighted * (plain.mean() / weighted.mean())
    torch.testing.assert_close(encoded["(a:2)"], expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoded["b"], expected[1], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("families")
    found = {}
    for name, shape in FAMILIES.items():
        file = save(folder / f"{name}.safetensors", weights_of(name), shape.all_metadata())
        found[name] = load_single_file(
            file.path, name=name, sha256=file.sha256, placement=Placement(torch.device("cpu"))
        )
    return found


def read(
    checkpoint: Checkpoint, *texts: str, negative: bool = False, size: tuple[int, int] = (96, 64), **how: Any
) -> list[Condition]:
    return Reader(TextEncoding(checkpoint), PLAIN, lambda: None, **how)(
        list(texts), size=size, negative=negative
    )


def rows(text: str, padding: int) -> torch.Tensor:
    """A text's chunks as ids, written out from specification 2.4: padding behind the first end."""
    found = []
    for chunk in tokens.tokenize(text).chunks:
        end = chunk.tokens.index(tokens.END)
        found.append([*chunk.tokens[: end + 1], *[padding] * (76 - end)])
    return torch.tensor(found)


@torch.inference_mode()
def test_sd2_reads_the_last_layer_but_one_with_padding_of_zeros(families: dict[str, Checkpoint]) -> None:
    (condition,) = read(families["sd2"], "a cat BREAK a dog", clip_skip=3)
    _, _, (module,) = FAMILIES["sd2"].modules()
    states = module(input_ids=rows("a cat BREAK a dog", 0), output_hidden_states=True).hidden_states
    expected = module.final_layer_norm(states[-2])
    torch.testing.assert_close(condition.vectors, torch.cat([*expected]), rtol=1e-5, atol=1e-5)
    assert (condition.pooled, condition.numbers) == (None, ())


@torch.inference_mode()
def test_sdxl_joins_two_encoders_each_with_its_own_mean(families: dict[str, Checkpoint]) -> None:
    text = "a (cat:1.4) BREAK a dog"
    (condition,) = read(families["sdxl"], text, clip_skip=2)
    _, _, (small, big) = FAMILIES["sdxl"].modules()
    parts = []
    for module, padding in ((small, tokens.END), (big, 0)):
        output = module(input_ids=rows(text, padding), output_hidden_states=True)
        plain = output.hidden_states[-2]
        weighted = plain.clone()
        weighted[0, 2] *= 1.4
        weighted[0] *= plain[0].mean() / weighted[0].mean()
        parts.append(weighted)
    torch.testing.assert_close(
        condition.vectors, torch.cat([*torch.cat(parts, dim=-1)]), rtol=1e-4, atol=1e-5
    )
    # The text as a whole: of the first chunk, not weighted.
    torch.testing.assert_close(condition.pooled, output.text_embeds[0], rtol=1e-5, atol=1e-5)
    assert condition.numbers == (64.0, 96.0, 0.0, 0.0, 64.0, 96.0)  # original, crop, target: height first


def test_sdxls_negative_prompt_counts_as_nothing_only_when_it_is_empty_throughout(
    families: dict[str, Checkpoint],
) -> None:
    (empty,) = read(families["sdxl"], "", negative=True)
    assert not empty.vectors.any()
    assert empty.pooled is not None
    assert not empty.pooled.any()
    for texts, negative in ((("",), False), ((" ",), True), (("", "x"), True)):
        assert all(one.vectors.any() for one in read(families["sdxl"], *texts, negative=negative))
    for family in ("sd1", "sd2"):
        (condition,) = read(families[family], "", negative=True)
        assert condition.vectors.any()


def test_the_refiner_reads_the_big_encoder_and_is_told_a_score(families: dict[str, Checkpoint]) -> None:
    (positive,) = read(families["sdxl-refiner"], "a cat")
    (negative,) = read(families["sdxl-refiner"], "a cat", negative=True)
    assert positive.vectors.shape == (77, 16)
    assert positive.numbers == (64.0, 96.0, 0.0, 0.0, 6.0)
    assert negative.numbers == (64.0, 96.0, 0.0, 0.0, 2.5)


def test_clip_skip_reads_an_earlier_layer_of_sd1(families: dict[str, Checkpoint]) -> None:
    _, _, (module,) = FAMILIES["sd1"].modules()
    (condition,) = read(families["sd1"], "a cat", clip_skip=2)
    with torch.inference_mode():
        states = module(input_ids=rows("a cat", tokens.END), output_hidden_states=True).hidden_states
        expected = module.final_layer_norm(states[-2])[0]
    torch.testing.assert_close(condition.vectors, expected, rtol=1e-5, atol=1e-5)


def test_the_filling_of_padded_prompts_is_an_empty_prompt(
    texts: TextEncoding, checkpoint: Checkpoint
) -> None:
    reader = Reader(texts, PLAIN, lambda: None, padded=True)
    assert reader.filling is not None
    torch.testing.assert_close(reader.filling, hidden(checkpoint, "")[0], rtol=1e-5, atol=1e-6)
    assert Reader(texts, PLAIN, lambda: None).filling is None
