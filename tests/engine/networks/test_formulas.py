"""Each kind of weight change against its formula on dense float64 matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cloudbrush.engine.networks.change import bias_change, kind_of, weight_change
from cloudbrush.engine.networks.unit import Unit
from tests.engine.networks.dense import CONV, IN, LINEAR, OUT, RANK, K, change, equal, rand


def loops(shape: tuple[int, ...], entry: Callable[..., float]) -> np.ndarray:
    """A dense tensor, entry by entry."""
    return np.fromfunction(np.vectorize(entry), shape, dtype=int)


def test_lora_of_a_linear_layer() -> None:
    up, down = rand(OUT, RANK), rand(RANK, IN)
    dense = loops((OUT, IN), lambda o, i: sum(up[o, r] * down[r, i] for r in range(RANK)))
    equal(change(LINEAR, lora_up=up, lora_down=down), dense)
    equal(change(LINEAR, lora_up=up, lora_down=down, alpha=1.5), dense * 1.5 / RANK)
    equal(change(LINEAR, lora_up=up, lora_down=down, alpha=1.5, scale=0.25), dense * 0.25)


def test_dyn_keeps_the_first_ranks_and_the_scale() -> None:
    up, down = rand(OUT, RANK), rand(RANK, IN)
    dense = np.outer(up[:, 0], down[0]) + np.outer(up[:, 1], down[1])
    equal(change(LINEAR, 2, lora_up=up, lora_down=down, alpha=1.0), dense / RANK)


def test_lora_of_convolutions() -> None:
    """The down half is a k x k convolution, the up half a 1 x 1 one after it."""
    up, down, x = rand(OUT, RANK, 1, 1), rand(RANK, IN, K, K), rand(1, IN, 6, 6)
    ours = torch.nn.functional.conv2d(x, change(CONV, lora_up=up, lora_down=down))
    equal(ours, torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down), up))
    up, down, pointwise = rand(OUT, RANK, 1, 1), rand(RANK, IN, 1, 1), rand(OUT, IN, 1, 1)
    equal(
        change(pointwise, lora_up=up, lora_down=down)[..., 0, 0],
        up[..., 0, 0].numpy() @ down[..., 0, 0].numpy(),
    )
    equal(
        change(LINEAR, lora_up=up, lora_down=down), up[..., 0, 0].numpy() @ down[..., 0, 0].numpy()
    )  # trained on a 1 x 1 convolution that is a linear layer here


def test_lora_with_a_convolution_in_the_middle() -> None:
    up, mid, down = rand(OUT, RANK, 1, 1), rand(RANK, RANK, K, K), rand(RANK, IN, 1, 1)
    conv, x = torch.nn.functional.conv2d, rand(1, IN, 6, 6)
    ours = conv(x, change(CONV, lora_up=up, lora_mid=mid, lora_down=down, alpha=2.0))
    equal(ours, conv(conv(conv(x, down), mid), up) * 2 / RANK)


def test_a_remainder_counts_before_the_scale() -> None:
    up, down, rest = rand(OUT, RANK), rand(RANK, IN), rand(OUT, IN, seed=3)
    equal(change(LINEAR, lora_up=up, lora_down=down, bias=rest, alpha=6.0), (up @ down + rest) * 2)


def test_loha() -> None:
    a1, b1, a2, b2 = rand(OUT, RANK), rand(RANK, IN), rand(OUT, RANK, seed=1), rand(RANK, IN, seed=1)
    dense = (a1.numpy() @ b1.numpy()) * (a2.numpy() @ b2.numpy())
    parts = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2}
    equal(change(LINEAR, **parts, alpha=1.0), dense / RANK)
    wide = {name: rand(RANK, IN * K * K, seed=ord(name[6])) for name in ("hada_w1_b", "hada_w2_b")}
    dense = (a1.numpy() @ wide["hada_w1_b"].numpy()) * (a2.numpy() @ wide["hada_w2_b"].numpy())
    equal(change(CONV, **{**parts, **wide}), dense.reshape(CONV.shape))


def tucker(core: Tensor, left: Tensor, right: Tensor) -> np.ndarray:
    shape = (left.shape[1], right.shape[1], *core.shape[2:])
    return loops(
        shape,
        lambda o, i, k, m: sum(
            core[r, s, k, m] * left[r, o] * right[s, i] for r in range(RANK) for s in range(RANK)
        ),
    )


def test_loha_in_tucker_form() -> None:
    parts = {}
    for number in (1, 2):
        parts |= {
            f"hada_t{number}": rand(RANK, RANK, K, K, seed=number),
            f"hada_w{number}_a": rand(RANK, OUT, seed=number),
            f"hada_w{number}_b": rand(RANK, IN, seed=number),
        }
    dense = np.ones(CONV.shape)
    for number in (1, 2):
        dense *= tucker(*(parts[f"hada_{name}"] for name in (f"t{number}", f"w{number}_a", f"w{number}_b")))
    equal(change(CONV, **parts, alpha=2.0), dense * 2 / RANK)


def factor(name: str, whole: bool, rows: int, columns: int) -> tuple[dict[str, Tensor], np.ndarray]:
    if whole:
        tensor = rand(rows, columns, seed=5)
        return {name: tensor}, tensor.numpy()
    left, right = rand(rows, RANK), rand(RANK, columns)
    return {f"{name}_a": left, f"{name}_b": right}, left.numpy() @ right.numpy()


@pytest.mark.parametrize("one_whole", [True, False])
@pytest.mark.parametrize("two_whole", [True, False])
def test_lokr(one_whole: bool, two_whole: bool) -> None:
    """out = 3·4, in = 2·4; the rank is that of the factored half, and none is without a scale."""
    one, dense_one = factor("lokr_w1", one_whole, 3, 2)
    two, dense_two = factor("lokr_w2", two_whole, 4, 4)
    scale = 1 if one_whole and two_whole else 6 / RANK
    equal(change(LINEAR, **one, **two, alpha=6.0), np.kron(dense_one, dense_two) * scale)


def test_lokr_of_convolutions() -> None:
    one = rand(3, 2)

    def dense(two: np.ndarray) -> np.ndarray:
        return loops(CONV.shape, lambda o, i, k, m: one[o // 4, i // 4] * two[o % 4, i % 4, k, m])

    whole = rand(4, 4, K, K)
    equal(change(CONV, lokr_w1=one, lokr_w2=whole), dense(whole.numpy()))
    left, right = rand(4, RANK), rand(RANK, 4 * K * K)
    product = (left.numpy() @ right.numpy()).reshape(4, 4, K, K)
    equal(change(CONV, lokr_w1=one, lokr_w2_a=left, lokr_w2_b=right, alpha=1.0), dense(product) / RANK)
    core, left, right = rand(RANK, RANK, K, K), rand(RANK, 4), rand(RANK, 4)
    parts = {"lokr_t2": core, "lokr_w2_a": left, "lokr_w2_b": right}
    equal(change(CONV, lokr_w1=one, **parts), dense(tucker(core, left, right)))


def test_ia3() -> None:
    per_output, per_input = rand(OUT), rand(IN)
    equal(change(LINEAR, weight=per_output, on_input=0.0), np.diag(per_output) @ LINEAR.numpy())
    equal(change(LINEAR, weight=per_input, on_input=1.0), LINEAR.numpy() @ np.diag(per_input))
    dense = loops(CONV.shape, lambda o, i, k, m: CONV[o, i, k, m] * per_input[i])
    equal(change(CONV, weight=per_input, on_input=1.0), dense)


def test_differences() -> None:
    diff, bias = rand(OUT, IN), rand(OUT)
    equal(change(LINEAR, diff=diff, alpha=8.0), diff)
    unit = Unit("layer", {"w_norm": rand(IN), "b_norm": bias}, {})
    kind = kind_of(unit.tensors)
    assert kind is not None
    equal(weight_change(kind, unit, rand(IN, seed=1)), rand(IN))
    assert bias_change(kind, unit) is not None
    equal(bias_change(kind, unit), bias)


def test_glora() -> None:
    a1, a2, b1, b2 = rand(RANK, IN), rand(IN, RANK), rand(RANK, IN, seed=1), rand(OUT, RANK)
    w = LINEAR.numpy()
    dense = b2.numpy() @ b1.numpy() + w @ a2.numpy() @ a1.numpy()
    equal(change(LINEAR, a1=a1, a2=a2, b1=b1, b2=b2, alpha=1.0), dense)


@pytest.mark.parametrize("weight", [LINEAR, CONV])
def test_dora_per_input(weight: Tensor) -> None:
    """kohya: (W + scaled BA) · m / norm over all but the input axis."""
    shape = weight.shape
    up, down = rand(OUT, RANK), rand(RANK, *shape[1:])
    merged = weight.numpy() + 0.5 * (up.numpy() @ down.flatten(1).numpy()).reshape(shape)
    magnitude = rand(1, IN, *[1] * (weight.ndim - 2))
    norm = np.sqrt((merged**2).sum(axis=(0, *range(2, weight.ndim)), keepdims=True))
    dense = merged * magnitude.numpy() / norm - weight.numpy()
    equal(change(weight, lora_up=up, lora_down=down, alpha=1.5, dora_scale=magnitude), dense)


def test_dora_per_output() -> None:
    up, down, magnitude = rand(OUT, RANK), rand(RANK, IN), rand(OUT, 1)
    merged = LINEAR.numpy() + up.numpy() @ down.numpy()
    before = np.linalg.norm(LINEAR, axis=1, keepdims=True)
    after = np.linalg.norm(merged, axis=1, keepdims=True)
    parts = {"lora_up": up, "lora_down": down}
    equal(change(LINEAR, **parts, dora_scale=magnitude), merged * magnitude.numpy() / before - LINEAR.numpy())
    equal(
        change(LINEAR, **parts, magnitude=magnitude[:, 0]),
        merged * magnitude.numpy() / after - LINEAR.numpy(),
    )


def test_dora_per_output_of_convolutions() -> None:
    up, down, magnitude = rand(OUT, RANK, 1, 1), rand(RANK, IN, K, K), rand(OUT, 1, 1, 1)
    low = np.einsum("or,rikm->oikm", up[..., 0, 0].numpy(), down.numpy())
    before = np.sqrt((CONV.numpy() ** 2).sum(axis=(1, 2, 3), keepdims=True))
    dense = (CONV.numpy() + low) * magnitude.numpy() / before - CONV.numpy()
    equal(change(CONV, lora_up=up, lora_down=down, dora_scale=magnitude), dense)


def test_dora_of_other_kinds() -> None:
    """Whatever the change, its scale comes first, the magnitudes after it."""
    magnitude = rand(1, IN)

    def decomposed(low: np.ndarray) -> np.ndarray:
        merged = LINEAR.numpy() + low
        return merged * magnitude.numpy() / np.linalg.norm(merged, axis=0, keepdims=True) - LINEAR.numpy()

    diff = rand(OUT, IN, seed=1)
    equal(change(LINEAR, diff=diff, dora_scale=magnitude), decomposed(diff.numpy()))
    one, two = rand(3, 2), rand(4, 4)
    kron = np.kron(one.numpy(), two.numpy())
    equal(change(LINEAR, lokr_w1=one, lokr_w2=two, dora_scale=magnitude), decomposed(kron))
    parts = {"hada_w1_a": rand(OUT, RANK), "hada_w1_b": rand(RANK, IN), "hada_w2_a": rand(OUT, RANK, seed=1),
             "hada_w2_b": rand(RANK, IN, seed=1)}  # fmt: skip
    product = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    equal(change(LINEAR, **parts, alpha=1.5, dora_scale=magnitude), decomposed(product.numpy() * 0.5))


def test_dora_of_a_vanishing_input_stays_finite() -> None:
    weight = LINEAR.clone()
    weight[:, 0] = 0
    down = rand(RANK, IN)
    down[:, 0] = 0
    ours = change(weight, lora_up=rand(OUT, RANK), lora_down=down, dora_scale=rand(1, IN))
    assert ours.isfinite().all()
    assert not ours[:, 0].any()


def test_parts_that_are_no_change() -> None:
    assert kind_of({"lora_up"}) is None
    assert kind_of({"weight", "bias"}) is None
    assert kind_of({"lokr_w1_a", "lokr_w2"}) is None
