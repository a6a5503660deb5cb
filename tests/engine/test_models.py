"""Loading checkpoints: equal to the modules they came from, and nothing but checkpoints."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header, TensorInfo
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement, Skeleton
from cloudbrush.engine.models.families import FAMILIES
from cloudbrush.engine.models.folder import load_folder
from cloudbrush.engine.models.keys import to_ldm
from cloudbrush.engine.models.layout import read_layout
from cloudbrush.engine.models.single_file import load_single_file
from tests.engine.conftest import Shape, save

CPU = Placement(torch.device("cpu"))
SHAPES = {
    "default": Shape(),
    "deep": Shape(
        widths=(8, 8, 16),
        attends=(True, True, False),
        layers=(2, 2, 2),
        vae_layers=2,
        text_layers=3,
        text_width=16,
        text_heads=4,
    ),
    "uneven": Shape(widths=(8, 16, 24), attends=(False, True, True), layers=(1, 3, 2), vae_widths=(4, 8)),
    "two transformer blocks each": Shape(depth=2, heads=1),
    "linear projections, no attention in the VAE": Shape(linear=True, vae_attention=False),
    "four levels like SD1's": Shape(
        widths=(32, 32, 64, 64), attends=(True, True, True, False), layers=(2,) * 4, heads=8, groups=32,
        vae_widths=(32,) * 4, text_width=64,
    ),
}  # fmt: skip


def load(file: ModelFile) -> Checkpoint:
    return load_single_file(file.path, name=file.name, sha256=file.sha256, placement=CPU)


@torch.inference_mode()
def outputs(unet: Any, vae: Any, text: Any) -> list[Tensor]:
    """What the three modules make of the same inputs."""
    torch.manual_seed(1)
    ids = torch.randint(0, 49408, (2, 77))
    context = text(input_ids=ids).last_hidden_state
    noise = torch.randn(2, 4, 8, 8)
    return [
        context,
        unet(noise, torch.tensor([3.5, 700.25]), encoder_hidden_states=context).sample,
        vae.decode(noise).sample,
        vae.encode(torch.randn(1, 3, 32, 32)).latent_dist.mean,
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_a_loaded_file_equals_the_modules_it_came_from(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    loaded = load(save(tmp_path / "x.safetensors", shape.weights(), shape.all_metadata()))
    expected = outputs(*shape.modules())
    for ours, theirs in zip(outputs(loaded.unet, loaded.vae, loaded.text[0].module), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


WELL_KNOWN = {  # names and shapes that every SD1.5 file has
    "model.diffusion_model.time_embed.0.weight": (1280, 320),
    "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
    "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
    "model.diffusion_model.input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight": (1280, 768),
    "model.diffusion_model.middle_block.1.proj_in.weight": (1280, 1280, 1, 1),
    "model.diffusion_model.middle_block.2.out_layers.3.bias": (1280,),
    "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.ff.net.0.proj.weight": (2560, 320),
    "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
    "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
    "first_stage_model.encoder.down.2.downsample.conv.weight": (512, 512, 3, 3),
    "first_stage_model.decoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
    "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
    "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
    "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
    "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.bias": (768,),
}


def test_the_names_and_the_layout_of_sd15_itself() -> None:
    """Without its weights: modules on the meta device take no memory."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768
            )
        )
    weights = to_ldm(unet.state_dict(), vae.state_dict(), text.state_dict(), (2, 2, 2, 2))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    assert len(shapes) == 1130
    assert WELL_KNOWN.items() <= shapes.items()
    header = Header({name: TensorInfo("F16", shape, 0, 0) for name, shape in shapes.items()}, {}, 0)
    layout = read_layout(header, FAMILIES["sd1"])
    assert layout.unet["block_out_channels"] == (320, 640, 1280, 1280)
    assert (layout.unet["attention_head_dim"], layout.texts[0]["num_attention_heads"]) == ((8,) * 4, 12)
    built = Skeleton.build(layout, FAMILIES["sd1"])
    assert set(built.unet.state_dict()) == set(unet.state_dict())
    assert set(built.vae.state_dict()) == set(vae.state_dict())
    assert set(built.text[0].module.state_dict()) == set(text.state_dict())


def test_sd1s_own_rule_holds_where_metadata_are_silent(tmp_path: Path) -> None:
    shape = SHAPES["four levels like SD1's"]
    loaded = load(save(tmp_path / "x.safetensors", shape.weights(), {"format": "pt"}))
    for ours, theirs in zip(
        outputs(loaded.unet, loaded.vae, loaded.text[0].module), outputs(*shape.modules()), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (loaded.info.family, loaded.info.prediction, loaded.info.native_size) == ("sd1", "epsilon", 512)


def test_metadata_tell_prediction_and_size(tmp_path: Path) -> None:
    shape = Shape(metadata={"cloudbrush.prediction": "v", "cloudbrush.native_size": "128"})
    loaded = load(save(tmp_path / "x.safetensors", shape.weights(), shape.all_metadata()))
    assert (loaded.info.prediction, loaded.info.native_size) == ("v", 128)


def test_half_precision_files_and_old_names_and_leftovers_load(tmp_path: Path) -> None:
    shape = Shape()
    weights = {
        name.replace("transformer.text_model.", "transformer."): tensor.half()
        for name, tensor in shape.weights().items()
    }
    weights |= {
        "model_ema.decay": torch.ones(1),
        "model_ema.diffusion_modelinput_blocks00weight": torch.ones(3),
        "cond_stage_model.transformer.embeddings.position_ids": torch.arange(77)[None],
        "alphas_cumprod": torch.ones(1000),
    }
    loaded = load(save(tmp_path / "x.safetensors", weights, shape.all_metadata()))
    unet, _, _ = shape.modules()
    assert loaded.unet.dtype == torch.float32
    torch.testing.assert_close(loaded.unet.conv_in.weight, unet.conv_in.weight, rtol=1e-3, atol=1e-3)


def test_nothing_hangs_on_the_file_after_loading(tmp_path: Path) -> None:
    file = save(tmp_path / "x.safetensors", Shape().weights(), Shape().all_metadata())
    loaded = load(file)
    file.path.write_bytes(b"")
    outputs(loaded.unet, loaded.vae, loaded.text[0].module)


def test_a_diffusers_folder_equals_its_modules(tmp_path: Path) -> None:
    modules = Shape().modules()
    for name, module in zip(("unet", "vae", "text_encoder"), modules, strict=True):
        module.save_pretrained(tmp_path / name)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (tmp_path / "scheduler").mkdir()
    scheduler = {"prediction_type": "v_prediction"}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    loaded = load_folder(tmp_path, name="folder", sha256="0" * 64, placement=CPU)
    assert loaded.info.prediction == "v"
    expected = outputs(*modules)
    for ours, theirs in zip(outputs(loaded.unet, loaded.vae, loaded.text[0].module), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model_index\.json is missing"):
        load_folder(tmp_path, name="x", sha256="", placement=CPU)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelFileError, match="a FluxPipeline; a StableDiffusionPipeline or"):
        load_folder(tmp_path, name="x", sha256="", placement=CPU)


ONE = torch.ones(4, 4)
WRONG = {
    "a lora": ({"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": ONE}, "this is a LoRA"),
    "a peft lora": ({"unet.mid_block.attentions.0.to_q.lora_A.weight": ONE}, "this is a LoRA"),
    "a vae": ({"decoder.conv_in.weight": ONE, "encoder.conv_in.weight": ONE * 2}, "this is a VAE"),
    "an embedding": ({"emb_params": ONE}, "this is an embedding"),
    "flux": ({"double_blocks.0.img_attn.qkv.weight": ONE}, "Flux"),
    "a denoiser": ({"model.diffusion_model.input_blocks.0.0.weight": ONE}, "without its text encoder"),
    "something": ({"foo": ONE, "bar": ONE * 2}, "holds bar, foo"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_files_are_refused_by_what_they_are(name: str, tmp_path: Path) -> None:
    weights, message = WRONG[name]
    with pytest.raises(ModelFileError, match=message):
        load(save(tmp_path / "x.safetensors", weights, {}))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("conditioner.embedders.1.model.ln_final.weight", "a checkpoint of SDXL, but"),
        ("conditioner.embedders.0.model.ln_final.weight", "a checkpoint of the SDXL refiner, but"),
        ("cond_stage_model.model.ln_final.weight", "a checkpoint of Stable Diffusion 2, but"),
    ],
)
def test_an_incomplete_file_is_named_for_its_family(key: str, message: str, tmp_path: Path) -> None:
    weights = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, 4, 3, 3), key: torch.ones(4)}
    with pytest.raises(ModelFileError, match=message):
        load(save(tmp_path / "x.safetensors", weights, {}))


UNET_OUT = "model.diffusion_model.out.2.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.diffusion_model.out.0.bias"), r"out\.0\.bias is missing"),
        (lambda w: w.pop("first_stage_model.quant_conv.bias"), "quant_conv.bias is missing"),
        (lambda w: w.update(stranger=ONE), "stranger is not known"),
        (lambda w: w.update({"model.diffusion_model.out.0.bias": ONE}), "has the shape"),
        (lambda w: w.update({UNET_OUT: w[UNET_OUT].to(torch.int32)}), "stored as I32"),
        (lambda w: w.update({"lora_unet_x.alpha": ONE, "b": ONE.clone()}), r"lora_unet_x.alpha.* are not"),
    ],
)
def test_incomplete_and_overfull_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    weights = Shape().weights()
    change(weights)
    with pytest.raises(ModelFileError, match=message):
        load(save(tmp_path / "x.safetensors", weights, Shape().all_metadata()))


def test_a_text_encoder_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    weights = Shape().weights()
    table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    weights[table] = weights[table][:1000].clone()
    with pytest.raises(ModelFileError, match="1000 tokens"):
        load(save(tmp_path / "x.safetensors", weights, Shape().all_metadata()))


@pytest.mark.parametrize("number", ["0", "7", "-1", "x", "99999"])
def test_metadata_that_cannot_be_are_refused(number: str, tmp_path: Path) -> None:
    metadata = {**Shape().all_metadata(), "cloudbrush.unet_heads": number}
    with pytest.raises(ModelFileError):
        load(save(tmp_path / "x.safetensors", Shape().weights(), metadata))


def test_a_cut_file_is_refused(tiny: ModelFile, tmp_path: Path) -> None:
    whole = tiny.path.read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            load(ModelFile("cut", path, ""))


def test_a_claimed_giant_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """Shapes worth a terabyte in a file of a kilobyte: refused from the header."""
    giant = {"model.diffusion_model.input_blocks.0.0.weight": {"dtype": "F32", "shape": [2**20, 2**18]}}
    giant["model.diffusion_model.input_blocks.0.0.weight"]["data_offsets"] = [0, 2**40]
    header = json.dumps(giant).encode()
    path = tmp_path / "giant.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelFileError, match="cut off"):
        load(ModelFile("giant", path, ""))


def file(name: str) -> ModelFile:
    return ModelFile(name, Path(name), name)


def test_the_cache_loads_once_and_drops_the_least_recently_used() -> None:
    loads: list[str] = []
    models = LoadedModels(lambda f: loads.append(f.name) or f.name.upper(), capacity=2)
    for name in "abacab":
        with models.using(file(name)) as model:
            assert model == name.upper()
    assert loads == ["a", "b", "c", "b"]


def test_a_model_in_use_is_never_dropped() -> None:
    loads: list[str] = []
    models = LoadedModels(lambda f: loads.append(f.name) or f.name, capacity=1)
    with models.using(file("a")):
        with models.using(file("b")), models.using(file("a")):
            pass
        with models.using(file("a")):
            pass
    assert loads == ["a", "b"]


def test_a_failed_load_is_tried_again() -> None:
    tries: list[str] = []

    def load_second_time(f: ModelFile) -> str:
        tries.append(f.name)
        if len(tries) == 1:
            raise ModelFileError("not now")
        return f.name

    models = LoadedModels(load_second_time, capacity=1)
    with pytest.raises(ModelFileError), models.using(file("a")):
        pass
    with models.using(file("a")) as model:
        assert model == "a"
