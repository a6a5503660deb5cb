"""Widths and depths of a single file's text encoders, read off the shapes of their tensors."""

from __future__ import annotations

from typing import Any

from cloudbrush.domain import tokens
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.domain.model_file import Header
from cloudbrush.engine.models import shapes
from cloudbrush.engine.models.families import Component, TextPart

HEAD_WIDTH = 64
_HEADS = {Component.TEXT: "text_heads", Component.TEXT_2: "text_heads_2"}


def text_prefix(header: Header, part: TextPart) -> str:
    """What the encoder's names begin with in this file."""
    last = "ln_final.weight" if part.open_clip else "final_layer_norm.weight"
    return next((prefix for prefix in part.prefixes if f"{prefix}{last}" in header), part.prefixes[0])


def read_text(header: Header, part: TextPart) -> dict[str, Any]:
    """Arguments of its transformers configuration; raises `ModelFileError` where shapes cannot be CLIP's."""
    prefix = text_prefix(header, part)
    vocabulary, width = shapes.plane(header, f"{prefix}{_TOKENS[part.open_clip]}")
    positions = shapes.plane(header, f"{prefix}{_POSITIONS[part.open_clip]}")[0]
    if vocabulary <= tokens.END or positions < tokens.CHUNK + 2:
        raise ModelFileError(
            f"the text encoder knows {vocabulary} tokens and {positions} places, fewer than CLIP's"
        )
    heads = shapes.metadata_number(header, _HEADS[part.component], max(1, width // HEAD_WIDTH))
    shapes.check_divides("heads of the text encoder", heads, width)
    layers = shapes.count(header, f"{prefix}{_LAYERS[part.open_clip]}")
    if part.published is None or layers != part.published - part.dropped:
        layers -= part.dropped
    if layers < (part.layer or 1):
        raise ModelFileError("the text encoder has fewer layers than its family reads")
    projection = shapes.plane(header, f"{prefix}text_projection")[1] if part.pooled else width
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes.plane(header, f"{prefix}{_INNER[part.open_clip]}")[0],
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": positions,
        "projection_dim": projection,
        "hidden_act": "gelu" if part.open_clip else "quick_gelu",
    }


# As CLIP names them (False), and as OpenCLIP does (True).
_TOKENS = {False: "embeddings.token_embedding.weight", True: "token_embedding.weight"}
_POSITIONS = {False: "embeddings.position_embedding.weight", True: "positional_embedding"}
_LAYERS = {False: "encoder.layers.{}.layer_norm1.weight", True: "transformer.resblocks.{}.ln_1.weight"}
_INNER = {False: "encoder.layers.0.mlp.fc1.weight", True: "transformer.resblocks.0.mlp.c_fc.weight"}
