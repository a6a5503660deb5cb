"""The model files there are, as the entries of the page's dropdowns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.generation import OWN_VAE
from cloudbrush.domain.sampling import AUTOMATIC
from cloudbrush.domain.upscaling import BUILTIN_UPSCALERS
from cloudbrush.studio.parameters import USUAL_SIDE

KINDS = {
    "checkpoint": AssetKind.CHECKPOINT,
    "vae": AssetKind.VAE,
    "hires.checkpoint": AssetKind.CHECKPOINT,
    "hires.upscaler": AssetKind.UPSCALER,
    "refiner.checkpoint": AssetKind.CHECKPOINT,
}
ALWAYS = {  # entries that need no file, the first of which is usual
    "checkpoint": [],
    "vae": [(AUTOMATIC, AUTOMATIC), ("None: the checkpoint's own", OWN_VAE)],
    "hires.checkpoint": [("Use same checkpoint", "")],
    "hires.upscaler": [(name, name) for name in BUILTIN_UPSCALERS],
    "refiner.checkpoint": [("None", "")],
}


def choices(path: str, assets: Sequence[ModelAsset]) -> list[tuple[str, str]]:
    """The entries of the dropdown at a path."""
    found = [(_label(asset), asset.name) for asset in assets if asset.kind is KINDS[path]]
    return [*ALWAYS[path], *found]


def update(path: str, assets: Sequence[ModelAsset], chosen: Any) -> Any:
    """The dropdown at a path with what there is now, keeping the choice if it is still there."""
    entries = choices(path, assets)
    names = [name for _, name in entries]
    return gr.update(choices=entries, value=chosen if chosen in names else next(iter(names), None))


def native_size(assets: Sequence[ModelAsset], checkpoint: str | None) -> int:
    """The side in pixels a checkpoint was trained at; of the first one unless it is there."""
    sides = {asset.name: asset.native_size for asset in assets if asset.kind is AssetKind.CHECKPOINT}
    return sides.get(checkpoint or "", next(iter(sides.values()), USUAL_SIDE))


def _label(asset: ModelAsset) -> str:
    shown = asset.shown_name
    return f"{shown} [{asset.short_hash}]" if asset.kind is AssetKind.CHECKPOINT else shown
