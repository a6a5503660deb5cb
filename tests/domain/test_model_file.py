"""Safetensors headers: limits, places, and what a file is."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import MAX_HEADER, MAX_TENSORS, ModelInfo, read_header, read_info

SD1 = (
    "model.diffusion_model.input_blocks.0.0.weight",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight",
)


def whole(header: Any, body: bytes = b"") -> io.BytesIO:
    """A file with this header, raw if it is bytes, and this body."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(raw)) + raw + body)


def tensor(start: int, end: int, shape: Any = None, dtype: str = "U8") -> dict[str, Any]:
    shape = [end - start] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def names(*keys: str, metadata: dict[str, str] | None = None) -> io.BytesIO:
    """A file of one-byte tensors with these names."""
    header: dict[str, Any] = {key: tensor(i, i + 1) for i, key in enumerate(keys)}
    if metadata is not None:
        header["__metadata__"] = metadata
    return whole(header, bytes(len(keys)))


def test_a_header_tells_shapes_places_and_metadata() -> None:
    header = read_header(
        whole(
            {"__metadata__": {"a": "b"}, "x": tensor(0, 8, [2, 2], "F16"), "y": tensor(8, 8, [0])}, bytes(8)
        )
    )
    assert header.shape("x") == (2, 2)
    assert header.tensors["x"].dtype == "F16"
    assert header.metadata == {"a": "b"}
    assert "y" in header
    with pytest.raises(ModelFileError, match="missing"):
        header.shape("z")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (io.BytesIO(b""), "cut off"),
        (io.BytesIO(b"PK\x03\x04" + bytes(100)), "pickle"),
        (io.BytesIO(b"\x80\x02ctorch" + bytes(100)), "pickle"),
        (io.BytesIO(b"<!DOCTYPE html>"), "web page"),
        (io.BytesIO(struct.pack("<Q", 100) + b"{}"), "not a safetensors file"),
        (io.BytesIO(struct.pack("<Q", 2**63) + b"{}"), "not a safetensors file"),
        (whole(b"{]"), "no JSON"),
        (whole(b"[1]"), "no JSON object"),
        (whole(b"[" * 100_000), "no JSON"),
        (whole(b"\xff\xfe"), "no JSON"),
        (whole(b'{"a": 1, "a": 2}'), "twice"),
        (whole({"__metadata__": {"a": 1}}), "metadata"),
        (whole({"x": 1}), "does not describe"),
        (whole({"x": {"dtype": "U8", "shape": [1]}}), "does not describe"),
        (whole({"x": tensor(0, 1, [-1])}, b"1"), "impossible"),
        (whole({"x": tensor(0, 1, [True])}, b"1"), "impossible"),
        (whole({"x": tensor(0, 1, [1.0])}, b"1"), "impossible"),
        (whole(b'{"x": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 1]}}', b"1"), "impossible"),
        (whole(b'{"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, Infinity]}}', b"1"), "impossible"),
        (
            whole(b'{"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}', b"1"),
            "does not describe",
        ),
        (whole(b'{"__metadata__": {"cloudbrush.native_size": NaN}}'), "metadata is not made of texts"),
        (whole(b'{"__metadata__": {"a": {"b": "c"}}}'), "metadata is not made of texts"),
        (
            whole(b'{"x": {"dtype": "U8", "shape": [%d], "data_offsets": [0, 1]}}' % 10**30, b"1"),
            "takes 1 bytes",
        ),
        (whole({"x": tensor(0, 1, [1] * 9)}, b"1"), "impossible"),
        (whole({"x": tensor(0, 1, [1], "Q4")}, b"1"), "unknown type"),
        (whole({"x": tensor(0, 2, [1])}, b"12"), "takes 2 bytes"),
        (whole({"x": tensor(2, 1, [1])}, b"12"), "takes -1 bytes"),
        (whole({"x": tensor(0, 2), "y": tensor(1, 3)}, b"123"), "does not begin"),
        (whole({"x": tensor(0, 1), "y": tensor(2, 3)}, b"123"), "does not begin"),
        (whole({"x": tensor(0, 2)}, b"1"), "cut off"),
        (whole({"x": tensor(0, 2)}, b"123"), "goes on"),
        (whole({str(i): tensor(0, 0) for i in range(MAX_TENSORS + 1)}), "20001 tensors"),
    ],
)
def test_broken_files_are_refused(file: io.BytesIO, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_header(file)


def test_an_enormous_header_is_refused_unread() -> None:
    class Huge(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return MAX_HEADER * 4 if whence == 2 else super().seek(offset)

    with pytest.raises(ModelFileError, match="are allowed"):
        read_header(Huge(struct.pack("<Q", MAX_HEADER + 1)))


@pytest.mark.parametrize(
    ("keys", "metadata", "expected"),
    [
        (SD1, None, ModelInfo(AssetKind.CHECKPOINT, "sd1", "epsilon", 512)),
        (
            SD1,
            {"cloudbrush.prediction": "v", "cloudbrush.native_size": "128"},
            ModelInfo(AssetKind.CHECKPOINT, "sd1", "v", 128),
        ),
        (
            (SD1[0], "conditioner.embedders.1.model.ln_final.weight"),
            None,
            ModelInfo(AssetKind.CHECKPOINT, "sdxl", "epsilon", 1024),
        ),
        (("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",), {"ss_v2": "True"},
         ModelInfo(AssetKind.LORA, "sd2", "epsilon", 768)),
        (("x.hada_w1_a",), None, ModelInfo(AssetKind.LORA)),
        (("first_stage_model.decoder.conv_in.weight",), None, ModelInfo(AssetKind.VAE)),
        (("emb_params",), None, ModelInfo(AssetKind.EMBEDDING)),
        (("conv_first.weight",), None, ModelInfo(AssetKind.UPSCALER)),
        (("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), None, ModelInfo(AssetKind.UPSCALER)),
        (("body.0.weight", "body.0.bias", "body.1.weight"), None, ModelInfo(AssetKind.UPSCALER)),
        (("clip_l", "clip_g"), None, ModelInfo(AssetKind.EMBEDDING, "sdxl", "epsilon", 1024)),
        (("<cat>",), None, ModelInfo(AssetKind.EMBEDDING)),
        (("768.k.linear.0.weight", "768.v.linear.0.bias"), None, ModelInfo(AssetKind.HYPERNETWORK)),
        (("lora_unet_x.diff",), None, ModelInfo(AssetKind.LORA)),
        (("unet.x.lora_A.weight", "unet.x.lora_B.weight"), None, ModelInfo(AssetKind.LORA)),
        (("unet.x.attn1.processor.to_q_lora.up.weight",), None, ModelInfo(AssetKind.LORA)),
        (("lora_te2_text_model_x.alpha",), {"ss_base_model_version": "sdxl_base_v1-0"},
         ModelInfo(AssetKind.LORA, "sdxl", "epsilon", 1024)),
    ],
)  # fmt: skip
def test_what_a_file_is(keys: tuple[str, ...], metadata: Any, expected: ModelInfo) -> None:
    assert read_info(names(*keys, metadata=metadata)) == expected


UNET, VAE = "model.diffusion_model.", "first_stage_model.decoder.conv_in.weight"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((SD1[0], VAE), "this is a denoiser without its text encoder"),
        ((f"{UNET}joint_blocks.0.x_block.attn.qkv.weight", VAE), "a Stable Diffusion 3 checkpoint"),
        ((f"{UNET}double_blocks.0.img_attn.qkv.weight", "vae.x"), "a Flux checkpoint"),
        ((SD1[0], f"{UNET}input_blocks.1.0.time_stack.in_layers.0.weight", VAE), "Stable Video Diffusion"),
        ((*SD1, "depth_model.model.x"), "a depth2img checkpoint"),
        ((*SD1, "embedder.model.ln_final.weight"), "an unCLIP checkpoint"),
        ((*SD1, "cond_stage_model.roberta.x"), "an AltDiffusion checkpoint"),
        (("joint_blocks.0.x", "y"), "a Stable Diffusion 3 denoiser"),
        (("transformer_blocks.0.attn.to_q.weight", "y"), "a bare diffusers transformer"),
        (("control_model.input_blocks.0.0.weight", "y"), "a ControlNet"),
        (("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x"), "a ControlNet of diffusers"),
        (("down_blocks.0.resnets.0.conv1.weight", "y"), "a bare diffusers denoiser"),
        (("down_blocks.0.motion_modules.0.norm.weight", "y"), "a motion module"),
        (("image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter"),
        (("text_model.final_layer_norm.weight", "y"), "a bare text encoder"),
        (("encoder.block.0.layer.0.SelfAttention.q.weight", "y"), "a bare T5 text encoder"),
        (("foo", "bar"), "no kind of model Cloudbrush knows; it holds foo, bar"),
        (("foo.weight",), "no kind of model Cloudbrush knows; it holds foo.weight"),
    ],
)
def test_what_cannot_be_used_is_refused_by_what_it_is(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_info(names(*keys))


@pytest.mark.parametrize("metadata", [{"cloudbrush.prediction": "x"}, {"cloudbrush.native_size": "-1"}])
def test_impossible_claims_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelFileError, match="claims"):
        read_info(names(*SD1, metadata=metadata))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=4)
    ),
)


FILES = st.one_of(
    st.binary(max_size=60).map(io.BytesIO),
    JSON.map(whole),
    st.dictionaries(st.text(max_size=5), JSON, max_size=3).map(whole),
)


@given(FILES)
def test_any_bytes_are_a_model_or_refused(file: io.BytesIO) -> None:
    with suppress(ModelFileError):
        read_info(file)


def test_an_empty_file_of_tensors_is_refused() -> None:
    with pytest.raises(ModelFileError, match="holds nothing"):
        read_info(names())
