"""Which model files of the catalogue a generation needs, by the names in it."""

from __future__ import annotations

from collections.abc import Iterator

from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import NotFound, UnknownModel
from cloudbrush.domain.generation import Generation, HiresFix, Txt2Img
from cloudbrush.domain.network_tags import HYPERNETWORK_TAG, LORA_TAGS, HypernetworkTag, LoraTag, unknown_kind
from cloudbrush.domain.prompt import cut_network_tags, strip_comments
from cloudbrush.domain.sampling import AUTOMATIC
from cloudbrush.domain.upscaling import BUILTIN_UPSCALERS


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


def everything(plane: ControlPlane, generation: Generation) -> tuple[ModelAsset, ...]:
    """Every model file a generation needs, each once, its checkpoint first.

    Raises `UnknownModel` for the first name not found and `InvalidInput` for a tag that cannot be read.
    """
    return tuple(dict.fromkeys(_everything(plane, generation)))


def _everything(plane: ControlPlane, generation: Generation) -> Iterator[ModelAsset]:
    first = checkpoint(plane, generation.checkpoint)
    yield first
    if found := vae(plane, generation.vae, first):
        yield _named(plane, AssetKind.VAE, found, field="vae")
    if generation.refiner:
        yield _named(plane, AssetKind.CHECKPOINT, generation.refiner.checkpoint, field="refiner.checkpoint")
    prompts = {"prompt": generation.prompt}
    words = generation.negative_prompt
    if isinstance(generation, Txt2Img) and (hires := generation.hires):
        yield from _hires(plane, hires)
        prompts["hires.prompt"] = hires.prompt
        words = f"{words}\n{hires.negative_prompt}"
    for field, prompt in prompts.items():
        text, tags = cut_network_tags(strip_comments(prompt))
        words = f"{words}\n{text}"
        for tag in tags:
            if tag.kind in LORA_TAGS:
                yield _named(plane, AssetKind.LORA, LoraTag.read(tag, field).name, field=field)
            elif tag.kind == HYPERNETWORK_TAG:
                name = HypernetworkTag.read(tag, field).name
                yield _named(plane, AssetKind.HYPERNETWORK, name, field=field)
            else:
                raise unknown_kind(tag, field)
    yield from _embeddings(plane, words.casefold())


def _hires(plane: ControlPlane, hires: HiresFix) -> Iterator[ModelAsset]:
    if hires.checkpoint is not None:
        yield _named(plane, AssetKind.CHECKPOINT, hires.checkpoint, field="hires.checkpoint")
    if hires.upscaler not in BUILTIN_UPSCALERS:
        yield _named(plane, AssetKind.UPSCALER, hires.upscaler, field="hires.upscaler")


def _embeddings(plane: ControlPlane, words: str) -> Iterator[ModelAsset]:
    """An embedding is a plain word, perhaps inside another: those that may be meant go along."""
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
