"""Checkpoints of every family: equal to the diffusers and transformers modules they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.models.folder import load_folder
from cloudbrush.engine.models.probe import predicts_v
from cloudbrush.engine.models.single_file import load_single_file
from tests.engine.conftest import save
from tests.engine.tiny_families import FAMILIES, OPEN_CLIP, POOLED, REFINER, SD1, SD2, SDXL, Tiny, weights_of

CPU = Placement(torch.device("cpu"))
INPAINTING = {f"{name} inpainting": replace(tiny, channels=9) for name, tiny in FAMILIES.items()}
ALL = FAMILIES | INPAINTING


def load(file: ModelFile) -> Checkpoint:
    return load_single_file(file.path, name=file.name, sha256=file.sha256, placement=CPU)


def made(tiny: Tiny, path: Path, more: dict[str, Tensor] | None = None, **metadata: str) -> Checkpoint:
    """The checkpoint of a file with these weights."""
    told = {f"cloudbrush.{name}": value for name, value in metadata.items()}
    return load(
        save(path / "x.safetensors", weights_of(tiny.family) | (more or {}), tiny.all_metadata() | told)
    )


def ids() -> Tensor:
    return torch.randint(0, 49406, (2, 77), generator=torch.Generator().manual_seed(1)).index_fill_(
        1, torch.tensor([20]), 49407
    )


@torch.inference_mode()
def texts_of(tiny: Tiny, texts: tuple[Any, ...]) -> list[Tensor]:
    """What specification 2.4 reads from each transformers module."""
    found = []
    for module in texts:
        output = module(input_ids=ids(), output_hidden_states=True)
        if tiny.family == "sd1":
            found.append(output.last_hidden_state)
        elif tiny.family == "sd2":
            found.append(module.final_layer_norm(output.hidden_states[-2]))
        else:
            found.append(output.hidden_states[-2])
            if "text_embeds" in output:
                found.append(output.text_embeds)
    return found


@torch.inference_mode()
def others_of(tiny: Tiny, unet: Any, vae: Any) -> list[Tensor]:
    """What denoiser and autoencoder make of the same inputs."""
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(2, tiny.channels, 8, 8, generator=draw)
    context = torch.randn(2, 77, tiny.context, generator=draw)
    added = {
        "text_embeds": torch.randn(2, POOLED, generator=draw),
        "time_ids": torch.randint(0, 1024, (2, tiny.numbers), generator=draw),
    }
    steps = torch.tensor([3.5, 700.25])
    return [
        unet(noise, steps, context, added_cond_kwargs=added if tiny.numbers else None).sample,
        vae.decode(noise[:, :4]).sample,
        vae.encode(torch.randn(1, 3, 32, 32, generator=draw)).latent_dist.mean,
    ]


def assert_equal(loaded: Checkpoint, tiny: Tiny) -> None:
    unet, vae, texts = tiny.modules()
    ours = [part for text in loaded.text for part in text(ids()) if part is not None]
    for one, other in zip(ours, texts_of(tiny, texts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for one, other in zip(others_of(tiny, loaded.unet, loaded.vae), others_of(tiny, unet, vae), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_tests_write_diffusers_reads_as_a_single_file(name: str) -> None:
    """So that the files below are laid out as others lay them out."""
    tiny = FAMILIES[name]
    unet, vae, texts = tiny.modules()
    weights = weights_of(name)
    config = {"layers_per_block": tiny.layers, "addition_embed_type": "text_time" if tiny.numbers else None}
    read = [
        (convert_ldm_unet_checkpoint(weights, config), unet.state_dict()),
        (convert_ldm_vae_checkpoint(weights, dict(vae.config)), vae.state_dict()),
    ]
    for text, module in zip(tiny.texts, texts, strict=True):
        if text.kind == OPEN_CLIP:
            own = {
                f"text_model.{key.removeprefix('text_model.')}": t for key, t in module.state_dict().items()
            }
            own = {key.replace("text_model.text_projection", "text_projection"): t for key, t in own.items()}
            found = convert_open_clip_checkpoint(module, weights, prefix=text.prefix)
            read.append(({key: tensor for key, tensor in found.items() if key in own}, own))
    for theirs, own in read:
        assert set(theirs) == set(own)
        for key, tensor in own.items():
            torch.testing.assert_close(theirs[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_a_loaded_file_equals_the_modules_it_came_from(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    tiny = ALL[name]
    weights = {key: tensor.to(dtype) for key, tensor in tiny.weights().items()}
    loaded = load(save(tmp_path / "x.safetensors", weights, tiny.all_metadata()))
    assert (loaded.info.family, loaded.input_channels) == (tiny.family, tiny.channels)
    assert loaded.latent_scale == (0.13025 if tiny.numbers else 0.18215)
    if dtype == torch.float32:
        assert_equal(loaded, tiny)
    else:
        unet = tiny.modules()[0].state_dict()
        for key, tensor in loaded.unet.state_dict().items():
            torch.testing.assert_close(tensor, unet[key].to(dtype).float(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_files_of_eight_bit_numbers_load(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {key: tensor.to(dtype) for key, tensor in weights_of("sdxl").items()}
    loaded = load(save(tmp_path / "x.safetensors", weights, SDXL.all_metadata()))
    unet, _, texts = SDXL.modules()
    for own, other in ((loaded.unet, unet), (loaded.text[1].module, texts[1])):
        found = own.state_dict()
        for key, tensor in other.state_dict().items():
            assert found[key].equal(tensor.to(dtype).float()), key


def test_clip_skip_counts_layers_from_the_last_and_norms_what_it_finds(tmp_path: Path) -> None:
    (encoder,) = made(SD1, tmp_path).text
    (module,) = SD1.modules()[2]
    hidden = module(input_ids=ids(), output_hidden_states=True).hidden_states
    for skip, layer in ((1, 3), (2, 2), (3, 1), (12, 1)):  # it has but three
        expected = module.final_layer_norm(hidden[layer])
        torch.testing.assert_close(encoder(ids(), skip)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sd2", "sdxl", "sdxl-refiner"])
def test_other_families_ignore_clip_skip(name: str, tmp_path: Path) -> None:
    for text in made(FAMILIES[name], tmp_path).text:
        torch.testing.assert_close(text(ids(), 1)[0], text(ids(), 3)[0], rtol=0, atol=0)


PIPELINES = {
    "sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline",
    "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline", "sd1 inpainting": "StableDiffusionInpaintPipeline",
    "sd2 inpainting": "StableDiffusionInpaintPipeline", "sdxl inpainting": "StableDiffusionXLInpaintPipeline",
}  # fmt: skip


def save_folder(tiny: Tiny, pipeline: str, path: Path, **scheduler: Any) -> None:
    """A folder as diffusers writes it; SD2's has its text encoder without the layer that nobody reads."""
    unet, vae, texts = tiny.modules()
    names = ("text_encoder_2",) if tiny is REFINER else ("text_encoder", "text_encoder_2")
    if tiny.family == "sd2":
        texts[0].encoder.layers = texts[0].encoder.layers[:-1]
        texts[0].config.num_hidden_layers -= 1
    for name, module in (("unet", unet), ("vae", vae), *zip(names, texts, strict=False)):
        module.save_pretrained(path / name)
    (path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_diffusers_folder_equals_its_modules(name: str, tmp_path: Path) -> None:
    save_folder(ALL[name], PIPELINES[name], tmp_path)
    loaded = load_folder(tmp_path, name="folder", sha256="0" * 64, placement=CPU)
    assert (loaded.info.family, loaded.info.prediction) == (ALL[name].family, "epsilon")
    assert loaded.info.native_size == 64  # the denoiser's sample size
    assert loaded.latent_scale == (0.13025 if ALL[name].numbers else 0.18215)
    assert_equal(loaded, ALL[name])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("unet", {"layers_per_block": 10**9}, "unet/config.json gives 1000000000 for layers_per_block"),
        ("unet", {"transformer_layers_per_block": [[1, 101], 1]}, "for transformer_layers_per_block"),
        ("unet", {"block_out_channels": [8] * 17}, "for block_out_channels"),
        ("unet", {"block_out_channels": [[[[[8]]]]]}, "for block_out_channels"),
        ("unet", {"block_out_channels": [10**9, 16]}, "for block_out_channels"),
        ("unet", {"block_out_channels": "8"}, "no checkpoint of Stable Diffusion 1 that can be built"),
        ("unet", {"block_out_channels": [7, 16]}, "that can be built"),
        ("unet", {"attention_head_dim": 0}, "that can be built"),
        ("unet", {"in_channels": float("nan")}, "unet/config.json gives nan for in_channels"),
        ("unet", {"in_channels": 5}, "a 5-channel checkpoint"),
        ("unet", {"in_channels": 9}, r"conv_in\.weight has the shape"),
        ("unet", {"cross_attention_dim": 12}, "write vectors of 8 numbers; the denoiser's 12 were expected"),
        ("vae", {"norm_num_groups": 0}, "that can be built"),
        ("vae", {"latent_channels": 8}, "latents of 8 channels; the denoiser's 4 were expected"),
        ("vae", {"in_channels": 4}, "turns 4 channels into 3; 3 colours were expected"),
        (
            "text_encoder",
            {"num_hidden_layers": 101},
            "text_encoder/config.json gives 101 for num_hidden_layers",
        ),
        ("text_encoder", {"hidden_size": -1}, "that can be built"),
        ("text_encoder", {"intermediate_size": 12}, "has the shape"),
        ("scheduler", {"prediction_type": "sample"}, "the model predicts 'sample'"),
    ],
)
def test_a_folder_with_false_configurations_is_refused(
    file: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_folder(SD1, PIPELINES["sd1"], tmp_path)
    config = tmp_path / file / ("scheduler_config.json" if file == "scheduler" else "config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelFileError, match=message):
        load_folder(tmp_path, name="folder", sha256="", placement=CPU)


def test_a_folder_with_pickles_or_with_parts_missing_is_refused(tmp_path: Path) -> None:
    save_folder(SD1, PIPELINES["sd1"], tmp_path)
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(ModelFileError, match=r"vae has no diffusion_pytorch_model\.safetensors") as refused:
        load_folder(tmp_path, name="folder", sha256="", placement=CPU)
    assert ".bin" in str(refused.value.hint)
    (tmp_path / "text_encoder" / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"text_encoder/config\.json is missing from the folder"):
        load_folder(tmp_path, name="folder", sha256="", placement=CPU)


def test_a_folders_half_precision_files_count_where_there_are_no_others(tmp_path: Path) -> None:
    save_folder(SD1, PIPELINES["sd1"], tmp_path)
    for file in list(tmp_path.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert_equal(load_folder(tmp_path, name="folder", sha256="", placement=CPU), SD1)


def test_a_folders_scheduler_tells_prediction_and_zero_snr(tmp_path: Path) -> None:
    save_folder(
        SDXL, PIPELINES["sdxl"], tmp_path, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    loaded = load_folder(tmp_path, name="folder", sha256="", placement=CPU)
    assert (loaded.info.prediction, loaded.info.zero_terminal_snr) == ("v", True)
    assert loaded.sigmas.max == pytest.approx(4518.76, abs=0.01)


def test_marks_and_metadata_tell_what_is_predicted(tmp_path: Path) -> None:
    marked = {key: torch.zeros(1) for key in ("v_pred", "ztsnr")}
    weights, told = weights_of("sdxl") | marked, SDXL.all_metadata()
    del told["cloudbrush.prediction"]
    loaded = load(save(tmp_path / "x.safetensors", weights, told))
    assert (loaded.info.prediction, loaded.info.zero_terminal_snr) == ("v", True)
    assert loaded.sigmas.max == pytest.approx(4518.76, abs=0.01)
    assert loaded.sigmas_for(downcast=True).max == pytest.approx(4518.76, abs=0.01)
    told["modelspec.prediction_type"] = "epsilon"
    assert load(save(tmp_path / "y.safetensors", weights, told)).info.prediction == "epsilon"


@pytest.mark.parametrize(("bias", "expected"), [(-2.0, "v"), (0.5, "epsilon")])
def test_an_sd2_file_that_does_not_tell_is_tried(bias: float, expected: str, tmp_path: Path) -> None:
    """A denoiser of v answers about minus the image where all is noise; one of epsilon, its input."""
    weights, told = dict(weights_of("sd2")), SD2.all_metadata()
    for name in ("weight", "bias"):
        key = f"model.diffusion_model.out.2.{name}"
        weights[key] = torch.full_like(weights[key], bias if name == "bias" else 0.0)
    for name in ("prediction", "native_size"):
        del told[f"cloudbrush.{name}"]
    loaded = load(save(tmp_path / "x.safetensors", weights, told))
    assert (loaded.info.prediction, loaded.info.native_size) == (expected, 768 if expected == "v" else 512)
    assert predicts_v(loaded.unet) == (expected == "v")


LEFTOVERS = {
    "sd2": ("cond_stage_model.model.attn_mask", "model_ema.decay", "alphas_cumprod"),
    "sdxl": (
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.0.logit_scale",
        "denoiser.sigmas",
        "model_ema.diffusion_modelinput_blocks00weight",
    ),
    "sdxl-refiner": ("betas", "conditioner.embedders.0.model.logit_scale"),
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftovers_of_training_are_tolerated(name: str, tmp_path: Path) -> None:
    made(FAMILIES[name], tmp_path, {key: torch.zeros(1) for key in LEFTOVERS[name]})


@pytest.mark.parametrize("name", FAMILIES)
def test_incomplete_extended_and_misshapen_files_are_refused(name: str, tmp_path: Path) -> None:
    tiny, weights = FAMILIES[name], weights_of(name)
    some = [key for key in weights if not key.endswith("logit_scale")][:: len(weights) // 7]
    told = tiny.all_metadata()
    for key in some:
        with pytest.raises(ModelFileError):
            load(save(tmp_path / "x.safetensors", {k: t for k, t in weights.items() if k != key}, told))
        misshapen = {**weights, key: torch.zeros(3, 3, 3, 3, 3)}
        with pytest.raises(ModelFileError):
            load(save(tmp_path / "x.safetensors", misshapen, told))
        hollow = {**weights, key: torch.zeros(*(0 for _ in weights[key].shape))}
        with pytest.raises(ModelFileError):
            load(save(tmp_path / "x.safetensors", hollow, told))
    with pytest.raises(ModelFileError, match=f"foo is not known in a checkpoint of {tiny_title(name)}"):
        load(save(tmp_path / "x.safetensors", {**weights, "foo": torch.zeros(1)}, told))


def tiny_title(name: str) -> str:
    return {"sd1": "Stable Diffusion 1", "sd2": "Stable Diffusion 2", "sdxl": "SDXL"}.get(
        name, "the SDXL refiner"
    )


@pytest.mark.parametrize(
    ("tiny", "claim", "message"),
    [
        (replace(SD1, channels=8), {}, "an InstructPix2Pix checkpoint; a plain one or one for inpainting"),
        (replace(SD1, channels=7), {}, "a 7-channel checkpoint; a plain one or one for inpainting"),
        (replace(SD1, context=12), {}, "write vectors of 8 numbers; the denoiser's 12 were expected"),
        (SD1, {"cloudbrush.family": "sd9"}, "a checkpoint of 'sd9'; one of sd1, sd2, sdxl, sdxl-refiner"),
        (SD1, {"cloudbrush.family": "sd2"}, "is missing"),
        (SDXL, {"cloudbrush.family": "sdxl-refiner"}, "is missing"),
        (SDXL, {"cloudbrush.unet_head_width": "7"}, "7 channels of a head do not divide"),
        (SDXL, {"cloudbrush.cfg_rescale": "2"}, "claims a CFG rescale"),
    ],
)
def test_false_claims_are_refused(tiny: Tiny, claim: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(save(tmp_path / "x.safetensors", tiny.weights(), tiny.all_metadata() | claim))
