"""Networks go into a module's weights in order, and out again bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks import lora, patches
from cloudbrush.engine.networks.lora import Network, read_network
from cloudbrush.engine.networks.patches import Patches, Wanted, key_of
from tests.engine.conftest import Shape
from tests.engine.networks.files import lora_for, rand, write

TIME = "lora_unet_time_embedding_linear_1"  # (32, 8)
QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"  # (16, 16), without bias
NORM = "lora_unet_conv_norm_out"  # (8,)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same_bits(module: nn.Module, before: dict[str, Tensor]) -> None:
    after = module.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert after[name].stride() == tensor.stride()
        assert after[name].flatten().view(torch.uint8).equal(tensor.flatten().view(torch.uint8)), name


def every_kind() -> dict[str, Tensor]:
    layers = {
        QUERY: {"hada_w1_a": rand(16, 2), "hada_w1_b": rand(2, 16), "hada_w2_a": rand(16, 2),
                "hada_w2_b": rand(2, 16, seed=1)},
        QUERY[:-1] + "k": {"lokr_w1": rand(4, 4), "lokr_w2": rand(4, 4, seed=1)},
        QUERY[:-1] + "v": {"oft_blocks": rand(4, 4, 4), "alpha": torch.tensor(0.0)},
        NORM: {"w_norm": rand(8), "b_norm": rand(8, seed=1)},
        TIME: {"diff": rand(32, 8), "diff_b": rand(32)},
        "lora_unet_time_embedding_linear_2": {"weight": rand(32), "on_input": torch.tensor(True)},
        QUERY.replace("attn1", "attn2"): {"diff": rand(16, 16), "diff_b": rand(16)},
    }  # fmt: skip
    return {f"{layer}.{part}": tensor for layer, parts in layers.items() for part, tensor in parts.items()}


@pytest.fixture
def unet() -> Any:
    unet = Shape().modules()[0].requires_grad_(False)
    return unet.to(memory_format=torch.channels_last)


@pytest.fixture
def networks(unet: nn.Module, tmp_path: Path) -> list[Network]:
    """Two LoRAs of everything and one network of all kinds."""
    contents = [lora_for(unet, "lora_unet_"), lora_for(unet, "lora_unet_", seed=7), every_kind()]
    return [
        read_network(write(tmp_path / f"n{number}.safetensors", content))
        for number, content in enumerate(contents)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backups_on", [None, torch.device("cpu")])
def test_loading_and_unloading_leaves_no_bit(
    dtype: torch.dtype, backups_on: Any, unet: Any, networks: list[Network]
) -> None:
    unet = unet.to(dtype)
    before, pointers = state(unet), [p.data_ptr() for p in unet.parameters()]
    module = Patches(unet, Component.UNET, backups_on=backups_on)
    a, b, c = (Wanted(network) for network in networks)
    for wanted in ([a], [b], [c, a], [], [a, b, c], [c], [Wanted(networks[0], unet=-2.5)], ()):
        module.set(wanted)
    assert_same_bits(unet, before)
    assert [p.data_ptr() for p in unet.parameters()] == pointers
    assert dict(unet.named_modules())["mid_block.attentions.0.transformer_blocks.0.attn2.to_q"].bias is None


def test_a_text_encoder_goes_in_and_out(tmp_path: Path) -> None:
    text = Shape().modules()[2]
    network = read_network(write(tmp_path / "x.safetensors", lora_for(text, "lora_te_text_model_")))
    before = state(text)
    module = Patches(text, Component.TEXT)
    module.set([Wanted(network, te=0.5)])
    assert not text.final_layer_norm.weight.equal(before["final_layer_norm.weight"] + 1)
    for path in ("encoder.layers.0.mlp.fc1", "encoder.layers.1.self_attn.q_proj"):
        key = "lora_te_text_model_" + path.replace(".", "_")
        unit = next(unit for unit in network.units if unit.layer == key)
        expected = before[f"{path}.weight"] + 0.5 * (unit["lora_up"] @ unit["lora_down"]) / 2
        torch.testing.assert_close(text.get_submodule(path).weight, expected, rtol=1e-5, atol=1e-5)
    module.set([])
    assert_same_bits(text, before)


def test_networks_are_merged_in_order_each_into_what_was_left(
    unet: Any, networks: list[Network], tmp_path: Path
) -> None:
    """IA3 multiplies what is there: after a LoRA it scales the LoRA too."""
    linear = unet.time_embedding.linear_1
    before = linear.weight.double()
    scaling, up, down = rand(32), rand(32, 2), rand(2, 8)
    ia3 = read_network(
        write(tmp_path / "ia3.safetensors", {f"{TIME}.weight": scaling, f"{TIME}.on_input": torch.tensor(0)})
    )
    low = read_network(
        write(tmp_path / "low.safetensors", {f"{TIME}.lora_up.weight": up, f"{TIME}.lora_down.weight": down})
    )
    module = Patches(unet, Component.UNET)
    module.set([Wanted(low, unet=0.5), Wanted(ia3, unet=2.0)])
    factor = 1 + 2 * scaling.double()[:, None]
    product = up.double() @ down.double()
    torch.testing.assert_close(
        linear.weight.double(), (before + 0.5 * product) * factor, rtol=1e-5, atol=1e-5
    )
    module.set([Wanted(ia3, unet=2.0), Wanted(low, unet=0.5)])
    torch.testing.assert_close(linear.weight.double(), before * factor + 0.5 * product, rtol=1e-5, atol=1e-5)


def test_low_precision_rounds_after_each_network(unet: Any, networks: list[Network]) -> None:
    unet = unet.half()
    weight = unet.time_embedding.linear_1.weight
    expected = weight.clone()
    for network in networks[:2]:
        unit = next(unit for unit in network.units if unit.layer == TIME)
        expected = (expected.float() + unit["lora_up"] @ unit["lora_down"] * 0.5 * 0.3).half()
    Patches(unet, Component.UNET).set([Wanted(network, unet=0.3) for network in networks[:2]])
    torch.testing.assert_close(weight, expected, rtol=2e-3, atol=1e-4)


def test_biases_change_and_appear(unet: Any, networks: list[Network]) -> None:
    query = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_q")
    time, norm = unet.time_embedding.linear_1, unet.conv_norm_out
    before = time.bias.clone(), norm.weight.clone(), norm.bias.clone()
    Patches(unet, Component.UNET).set([Wanted(networks[2], unet=0.5)])
    torch.testing.assert_close(time.bias, before[0] + 0.5 * rand(32))
    torch.testing.assert_close(norm.weight, before[1] + 0.5 * rand(8))
    torch.testing.assert_close(norm.bias, before[2] + 0.5 * rand(8, seed=1))
    torch.testing.assert_close(query.bias, 0.5 * rand(16))
    assert not query.bias.requires_grad


def test_multiplier_zero_is_none(unet: Any, networks: list[Network]) -> None:
    before = state(unet)
    module = Patches(unet, Component.UNET)
    module.set([Wanted(networks[0], te=1.0, unet=0.0)])
    assert_same_bits(unet, before)
    assert key_of([Wanted(networks[0], te=1.0, unet=0.0)], Component.UNET) == ()
    assert key_of([Wanted(networks[0], te=1.0, unet=0.0)], Component.TEXT) != ()


def test_one_at_multiplier_zero_does_not_even_have_to_fit(
    unet: Any, networks: list[Network], tmp_path: Path
) -> None:
    wrong = read_network(write(tmp_path / "wrong.safetensors", {f"{TIME}.diff": rand(5, 5)}))
    Patches(unet, Component.UNET).set([Wanted(wrong, unet=0.0), Wanted(networks[0])])


def test_dyn_reaches_the_layers(unet: Any, networks: list[Network]) -> None:
    before = unet.time_embedding.linear_1.weight.clone()
    Patches(unet, Component.UNET).set([Wanted(networks[0], dyn=1)])
    unit = next(unit for unit in networks[0].units if unit.layer == TIME)
    expected = before + torch.outer(unit["lora_up"][:, 0], unit["lora_down"][0]) / 2
    torch.testing.assert_close(unet.time_embedding.linear_1.weight, expected)


def test_nothing_is_computed_when_nothing_changes(
    unet: Any, networks: list[Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Patches(unet, Component.UNET)
    module.set([Wanted(networks[0])])
    monkeypatch.setattr(patches, "_merged", None)
    module.set([Wanted(networks[0])])
    module.set([Wanted(networks[0], te=0.2), Wanted(networks[1], te=1.0, unet=0.0)])


def test_only_what_is_touched_is_kept(unet: Any, tmp_path: Path) -> None:
    network = read_network(write(tmp_path / "x.safetensors", {f"{TIME}.diff": rand(32, 8)}))
    module = Patches(unet, Component.UNET)
    module.set([Wanted(network)])
    assert list(module._weights) == ["time_embedding.linear_1"]
    assert not module._biases
    module.set([])
    assert not module._weights


def test_one_that_does_not_fit_changes_nothing(unet: Any, networks: list[Network], tmp_path: Path) -> None:
    wrong = read_network(write(tmp_path / "wrong.safetensors", {f"{TIME}.diff": rand(5, 5)}))
    module = Patches(unet, Component.UNET)
    module.set([Wanted(networks[0])])
    before = state(unet)
    with pytest.raises(ModelFileError, match=f"{TIME} of the network 'wrong'"):
        module.set([Wanted(networks[1]), Wanted(wrong)])
    assert_same_bits(unet, before)


def test_after_a_failure_in_between_no_network_is_left(
    unet: Any, networks: list[Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(unet)
    module = Patches(unet, Component.UNET)
    module.set([Wanted(networks[0])])
    calls = []

    def fails_later(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 10:
            raise MemoryError
        return original(*arguments)

    original = lora.weight_change
    with monkeypatch.context() as patched:
        patched.setattr(
            lora, "weight_change", lambda *a: fails_later(*a) if a[2].device.type == "cpu" else original(*a)
        )
        with pytest.raises(MemoryError):
            module.set([Wanted(networks[1])])
    assert_same_bits(unet, before)
    module.set([Wanted(networks[0])])
    module.set([])
    assert_same_bits(unet, before)


def test_an_inpainting_denoiser_takes_changes_of_four_inputs(tmp_path: Path) -> None:
    conv = nn.Conv2d(9, 8, 3)
    holder = Shape().modules()[0]
    holder.conv_in = conv
    before = conv.weight.detach().clone()
    tensors = {
        "lora_unet_conv_in.lora_up.weight": rand(8, 2, 1, 1),
        "lora_unet_conv_in.lora_down.weight": rand(2, 4, 3, 3),
    }
    network = read_network(write(tmp_path / "x.safetensors", tensors))
    Patches(holder, Component.UNET).set([Wanted(network)])
    change = torch.einsum("or,rikm->oikm", rand(8, 2, 1, 1)[..., 0, 0], rand(2, 4, 3, 3))
    torch.testing.assert_close(conv.weight[:, :4], before[:, :4] + change)
    assert conv.weight[:, 4:].equal(before[:, 4:])


@torch.inference_mode()
def test_the_painted_image_changes_and_changes_back(unet: Any, networks: list[Network]) -> None:
    x, t, context = rand(1, 4, 8, 8), torch.tensor([3.0]), rand(1, 77, 8)

    def run() -> Tensor:
        return unet(x, t, encoder_hidden_states=context).sample

    plain = run()
    module = Patches(unet, Component.UNET)
    module.set([Wanted(networks[0], unet=0.01), Wanted(networks[2], unet=0.01)])
    assert not run().allclose(plain)
    module.set([])
    assert run().equal(plain)
