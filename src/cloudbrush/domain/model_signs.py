"""What a model file is, by the names of its tensors (specification 4.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import ModelFileError

Shapes = Mapping[str, tuple[int, ...]]

DENOISER = "model.diffusion_model."
FIRST_LAYER = f"{DENOISER}input_blocks.0.0.weight"
_SD2_WIDTH = 1024  # of the text encoder
_CHECKPOINTS = (  # the first tensor found decides
    ("conditioner.embedders.1.model.ln_final.weight", "sdxl"),
    ("conditioner.embedders.0.model.ln_final.weight", "sdxl-refiner"),
    ("cond_stage_model.model.ln_final.weight", "sd2"),
    ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "sd1"),
    ("cond_stage_model.transformer.final_layer_norm.weight", "sd1"),
)
_OTHERS: tuple[tuple[str, AssetKind, str | None], ...] = (
    ("first_stage_model.decoder.conv_in.weight", AssetKind.VAE, None),
    ("decoder.conv_in.weight", AssetKind.VAE, None),
    ("emb_params", AssetKind.EMBEDDING, None),
    ("clip_g", AssetKind.EMBEDDING, "sdxl"),
    ("conv_first.weight", AssetKind.UPSCALER, None),  # ESRGAN and Real-ESRGAN
    ("model.1.sub.0.RDB1.conv1.0.weight", AssetKind.UPSCALER, None),  # ESRGAN's first files
)
_COMPACT = ("body.0.weight", "body.0.bias", "body.1.weight")  # Real-ESRGAN's compact upscaler has all these
_LORA = re.compile(
    r"(\.lora_(up|down|A|B)\b|\.lora_linear_layer\.|[._]lora\.(up|down)\.|\.hada_w1_a|\.lokr_w[12]"
    r"|\.oft_(blocks|diag)|\.(a1|b1)\.weight$|^lora_(unet|te\d?)_|\.(diff|diff_b|w_norm|on_input)$)"
)
_HYPERNETWORK = re.compile(r"\d+\.[kv]\.linear\.\d+\.(weight|bias)")
_EMBEDDING_RANK = 2  # at most: (vectors, width)
_RELATED = (  # of the same making as checkpoints, but with inputs that Cloudbrush does not give
    ("depth_model.", "a depth2img checkpoint"),
    ("embedder.model.", "an unCLIP checkpoint"),
    ("cond_stage_model.roberta.", "an AltDiffusion checkpoint"),
    (f"{DENOISER}input_blocks.1.0.time_stack.", "a Stable Video Diffusion checkpoint"),
    (f"{DENOISER}double_blocks.", "a Flux checkpoint"),
    (f"{DENOISER}joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("control_model.", "a ControlNet"),
    ("lora_controlnet", "a ControlLoRA"),
)
_FOREIGN = (  # the beginning of a name, and what such a file is
    ("double_blocks.", "a Flux denoiser"),
    ("joint_blocks.", "a Stable Diffusion 3 denoiser"),
    ("transformer_blocks.", "a bare diffusers transformer"),
    (DENOISER, "a denoiser without its text encoder"),
    ("controlnet_cond_embedding.", "a ControlNet of diffusers"),
    ("image_proj", "an IP-Adapter"),
    ("down_blocks.0.motion_modules.", "a motion module"),
    ("down_blocks.", "a bare diffusers denoiser"),
    ("text_model.", "a bare text encoder"),
    ("encoder.block.0.layer.0.SelfAttention.", "a bare T5 text encoder"),
    ("layers.0.residual_group.overlap_attn.", "a HAT upscaler"),
    ("layers.0.residual_group.", "a SwinIR upscaler"),
    ("before_RG.", "a DAT upscaler"),
    ("m_head.", "a ScuNET upscaler"),
)


def recognise(shapes: Shapes, metadata: Mapping[str, str]) -> tuple[AssetKind, str | None]:
    """The kind, and the family where names or metadata tell; raises `ModelFileError` for anything else."""
    _refuse(shapes, _RELATED)
    for key, family in _CHECKPOINTS:
        if key in shapes and FIRST_LAYER in shapes:
            narrow = family == "sdxl-refiner" and shapes[key] == (_SD2_WIDTH,)
            return AssetKind.CHECKPOINT, "sd2" if narrow else family  # SD2 turbo is laid out like a refiner
    if any(_LORA.search(key) for key in shapes):
        return AssetKind.LORA, lora_family(metadata)
    _refuse(shapes, _FOREIGN)
    for key, kind, of in _OTHERS:
        if key in shapes:
            return kind, of
    if all(key in shapes for key in _COMPACT):
        return AssetKind.UPSCALER, None
    if shapes and all(_HYPERNETWORK.fullmatch(key) for key in shapes):
        return AssetKind.HYPERNETWORK, None
    if is_lone_embedding(shapes):
        return AssetKind.EMBEDDING, None
    some = ", ".join(key[:60] for key in list(shapes)[:3]) or "nothing"
    raise ModelFileError(f"this is no kind of model Cloudbrush knows; it holds {some}")


def lora_family(metadata: Mapping[str, str]) -> str | None:
    """The family a LoRA was trained on, as far as its metadata tell (specification 4.1)."""
    if metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        return "sdxl"
    if metadata.get("ss_v2") == "True":
        return "sd2"
    return "sd1" if metadata else None


def is_lone_embedding(shapes: Shapes) -> bool:
    """Whether the file is one list of vectors under the name of a word, as diffusers saves them."""
    return len(shapes) == 1 and all(
        1 <= len(shape) <= _EMBEDDING_RANK
        and not key.endswith((".weight", ".bias"))
        and not _LORA.search(key)
        for key, shape in shapes.items()
    )


def _refuse(shapes: Shapes, signs: tuple[tuple[str, str], ...]) -> None:
    for beginning, what in signs:
        if any(key.startswith(beginning) for key in shapes):
            raise ModelFileError(f"this is {what}, which Cloudbrush cannot use")
