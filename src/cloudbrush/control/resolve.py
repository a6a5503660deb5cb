"""Which model files of the catalogue a generation needs, by the names in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import NotFound, NotInCloud, UnknownModel
from cloudbrush.domain.generation import Generation, HiresFix, Txt2Img
from cloudbrush.domain.network_tags import HYPERNETWORK_TAG, LORA_TAGS, HypernetworkTag, LoraTag, unknown_kind
from cloudbrush.domain.prompt import NetworkTag, cut_network_tags, strip_comments
from cloudbrush.domain.sampling import AUTOMATIC
from cloudbrush.domain.upscaling import BUILTIN_UPSCALERS

Named = tuple[str, ModelAsset]
"""A model with the field that names it."""


def checkpoint(plane: ControlPlane, name: str | None, *, in_cloud: bool = False) -> ModelAsset:
    """The checkpoint called `name`; the first there is, or is in the cloud, when none is named.

    Raises `UnknownModel`.
    """
    if name is not None:
        return _named(plane, AssetKind.CHECKPOINT, name, field="checkpoint")
    known = [source.asset for source in plane.stores.assets.all()]
    found = [asset for asset in known if asset.kind is AssetKind.CHECKPOINT]
    if not found:
        raise UnknownModel(
            "there is no checkpoint at all",
            field="checkpoint",
            hint="Put a .safetensors file into models/Stable-diffusion and refresh.",
        )
    return next((asset for asset in found if asset.in_cloud or not in_cloud), found[0])


def vae(plane: ControlPlane, name: str | None, checkpoint: ModelAsset) -> str | None:
    """The VAE that a choice comes down to for a checkpoint; None is the checkpoint's own.

    Automatic takes the first VAE file whose name begins with the checkpoint's (specification 1.5). Raises
    `UnknownModel`.
    """
    if name is None or name != AUTOMATIC:
        return name and _named(plane, AssetKind.VAE, name, field="vae").name
    known = (source.asset for source in plane.stores.assets.all())
    names = (asset.name for asset in known if asset.kind is AssetKind.VAE)
    return next((name for name in names if name.startswith(checkpoint.name)), None)


def everything(
    plane: ControlPlane, generation: Generation, *, in_cloud: bool = False
) -> tuple[ModelAsset, ...]:
    """Every model file a generation needs, each once, its checkpoint first.

    Raises `UnknownModel` for the first name not found, `NotInCloud` for one that is needed `in_cloud` and is
    on this machine only, and `InvalidInput` for a tag that cannot be read.
    """
    needed = list(_everything(plane, generation, in_cloud))
    if in_cloud:
        for field, asset in needed:
            _require_in_cloud(plane, asset, field)
    return tuple(dict.fromkeys(asset for _field, asset in needed))


def _everything(plane: ControlPlane, generation: Generation, in_cloud: bool) -> Iterator[Named]:
    first = checkpoint(plane, generation.checkpoint, in_cloud=in_cloud)
    yield "checkpoint", first
    if found := vae(plane, generation.vae, first):
        yield "vae", _named(plane, AssetKind.VAE, found, field="vae")
    if generation.refiner:
        field = "refiner.checkpoint"
        yield field, _named(plane, AssetKind.CHECKPOINT, generation.refiner.checkpoint, field=field)
    prompts = {"prompt": generation.prompt}
    words = {"negative_prompt": generation.negative_prompt}
    if isinstance(generation, Txt2Img) and (hires := generation.hires):
        yield from _hires(plane, hires)
        prompts["hires.prompt"] = hires.prompt
        words["hires.negative_prompt"] = hires.negative_prompt
    for field, prompt in prompts.items():
        words[field], tags = cut_network_tags(strip_comments(prompt))
        yield from ((field, _tagged(plane, tag, field)) for tag in tags)
    for field, text in words.items():
        yield from ((field, asset) for asset in _embeddings(plane, text.casefold()))


def _hires(plane: ControlPlane, hires: HiresFix) -> Iterator[Named]:
    if hires.checkpoint is not None:
        field = "hires.checkpoint"
        yield field, _named(plane, AssetKind.CHECKPOINT, hires.checkpoint, field=field)
    if hires.upscaler not in BUILTIN_UPSCALERS:
        field = "hires.upscaler"
        yield field, _named(plane, AssetKind.UPSCALER, hires.upscaler, field=field)


def _tagged(plane: ControlPlane, tag: NetworkTag, field: str) -> ModelAsset:
    if tag.kind in LORA_TAGS:
        return _named(plane, AssetKind.LORA, LoraTag.read(tag, field).name, field=field)
    if tag.kind == HYPERNETWORK_TAG:
        return _named(plane, AssetKind.HYPERNETWORK, HypernetworkTag.read(tag, field).name, field=field)
    raise unknown_kind(tag, field)


def _embeddings(plane: ControlPlane, words: str) -> Iterator[ModelAsset]:
    """An embedding is a plain word, perhaps inside another: those that may be meant go along."""
    for source in plane.stores.assets.all():
        if source.asset.kind is AssetKind.EMBEDDING and source.asset.name.casefold() in words:
            yield source.asset


def _require_in_cloud(plane: ControlPlane, asset: ModelAsset, field: str) -> None:
    """It may have been uploaded since the catalogue was read: then it is found by its content."""
    if asset.in_cloud or (plane.cloud_models and plane.cloud_models.has(asset)):
        return
    raise NotInCloud(
        f"the {asset.kind} {asset.name!r} is on this machine only, and the endpoint is in the cloud",
        field=field,
        hint=f"Upload it: cloudbrush models upload {shlex.quote(asset.name)}",
    )


def _named(plane: ControlPlane, kind: AssetKind, name: str, *, field: str) -> ModelAsset:
    try:
        return plane.stores.assets.get(kind, name)
    except NotFound as error:
        raise UnknownModel(
            f"there is no {kind} called {name!r}",
            field=field,
            hint="`cloudbrush models` lists what there is.",
        ) from error
