"""Checkpoints of every family: equal to the diffusers and transformers modules they come from."""

from __future__ import annotations

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
from cloudbrush.engine.models.probe import predicts_v
from cloudbrush.engine.models.single_file import load_single_file
from tests.engine.conftest import save
from tests.engine.tiny_families import FAMILIES, OPEN_CLIP, POOLED, SD1, SD2, SDXL, Tiny, weights_of

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
