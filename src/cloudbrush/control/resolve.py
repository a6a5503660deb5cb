"""Which model files of the catalogue a generation needs, by the names in it."""

from __future__ import annotations

from collections.abc import Iterator

from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import NotFound, UnknownModel
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.prompt import cut_network_tags, strip_comments

TAG_KINDS = {
    "lora": AssetKind.LORA,
    "lyco": AssetKind.LORA,
    "hypernet": AssetKind.HYPERNETWORK,
}


def checkpoint(plane: ControlPlane, name: str | None) -> ModelAsset:
    """The checkpoint called `name`; the first there is when none is named. Raises `UnknownModel`."""
    if name is not None:
        return _named(plane, AssetKind.CHECKPOINT, name, field="checkpoint")
    for source in plane.stores.assets.all():
        if source.asset.kind is AssetKind.CHECKPOINT:
            return source.asset
    raise UnknownModel(
        "there is no checkpoint at all",
        field="checkpoint",
        hint="Put a .safetensors file into models/Stable-diffusion and refresh.",
    )


def everything(plane: ControlPlane, generation: Txt2Img) -> tuple[ModelAsset, ...]:
    """Every model file a generation needs, each once. Raises `UnknownModel` for the first name not found."""
    return tuple(dict.fromkeys(_everything(plane, generation)))


def _everything(plane: ControlPlane, generation: Txt2Img) -> Iterator[ModelAsset]:
    yield checkpoint(plane, generation.checkpoint)
    if generation.vae is not None:
        yield _named(plane, AssetKind.VAE, generation.vae, field="vae")
    text, tags = cut_network_tags(strip_comments(generation.prompt))
    for tag in tags:
        if kind := TAG_KINDS.get(tag.kind.lower()):
            yield _named(plane, kind, "".join(tag.arguments[:1]), field="prompt")
    # An embedding is a plain word, perhaps inside another: those that may be meant go along.
    words = f"{text}\n{generation.negative_prompt}".casefold()
    for source in plane.stores.assets.all():
        if source.asset.kind is AssetKind.EMBEDDING and source.asset.name.casefold() in words:
            yield source.asset


def _named(plane: ControlPlane, kind: AssetKind, name: str, *, field: str) -> ModelAsset:
    try:
        return plane.stores.assets.get(kind, name)
    except NotFound as error:
        raise UnknownModel(
            f"there is no {kind} called {name!r}",
            field=field,
            hint="`cloudbrush models` lists what there is.",
        ) from error
