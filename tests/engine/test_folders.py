"""Checkpoints as diffusers folders: equal to the modules they were saved from; false ones refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.models.folder import load_folder
from tests.engine.test_families import ALL, CPU, assert_equal
from tests.engine.tiny_families import REFINER, SD1, SDXL, Tiny

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
