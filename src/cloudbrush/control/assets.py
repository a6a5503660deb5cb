"""The catalogue: which models there are, read off the model folders and the cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from cloudbrush.control.cloud_models import CloudModels
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain import embedding_picture, model_file
from cloudbrush.domain.asset import AssetKind, ModelAsset, plain_name
from cloudbrush.domain.errors import GenerationFailed, InvalidInput, ModelFileError, NotFound, Unavailable
from cloudbrush.domain.generation import MAX_SIDE, MIN_SIDE, SIDE_STEP
from cloudbrush.domain.model_folder import read_folder
from cloudbrush.stores.base import AssetSource
from cloudbrush.stores.digest import files_of, sha256_of, version_of

log = structlog.get_logger()
DIFFUSERS_INDEX = "model_index.json"

# The WebUI's folder names, so that a collection can be linked or moved in as it is.
FOLDERS = {
    "Stable-diffusion": AssetKind.CHECKPOINT,
    "VAE": AssetKind.VAE,
    "Lora": AssetKind.LORA,
    "hypernetworks": AssetKind.HYPERNETWORK,
    "embeddings": AssetKind.EMBEDDING,
    "ESRGAN": AssetKind.UPSCALER,
    "RealESRGAN": AssetKind.UPSCALER,
}


def find(plane: ControlPlane, kind: AssetKind | None = None) -> list[ModelAsset]:
    """The catalogue, by kind and name."""
    return [source.asset for source in plane.stores.assets.all() if kind in (None, source.asset.kind)]


def refresh(plane: ControlPlane) -> None:
    """Bring the catalogue up to date with the folders and the cloud; a file is read only when it changed.

    What cannot be used is left out, and the log says why. A model in a folder hides its namesake in the
    cloud.
    """
    with plane.cataloguing:
        known = {_place(source.asset): source for source in plane.stores.assets.all()}
        names = {(source.path, source.modified): source.asset.name for source in known.values()}
        cloud = _in_cloud(plane, known.values())
        found = {(kind, name): path for kind, name, path in _named(plane.models_dirs, names)}
        old = dict(known)
        for place, path in found.items():
            try:
                source = _current(*place, path, known.get(place), cloud)
                _keep(plane, source, old.pop(place, None))
                if not plane.cloud_models:
                    plane.stores.blobs.adopt(source.asset.key, path)
            except (ModelFileError, OSError, UnicodeError) as error:
                log.warning("model left out", file=ascii(path.name), reason=str(error))
        for asset in cloud.values():
            if _place(asset) not in found:
                _keep(plane, AssetSource(asset, None), old.pop(_place(asset), None))
        for kind, name in old:  # gone, or of no use any more
            plane.stores.assets.delete(kind, name)


def lend(plane: ControlPlane, needed: Iterable[ModelAsset]) -> None:
    """See that workers find these models: what a bucket lacks is put there; a directory has them by link.

    Raises `ModelFileError` for a file that changed or is gone, `GenerationFailed` when the bucket takes none.
    """
    if not plane.cloud_models:
        return
    missing = {_place(asset) for asset in needed if not asset.in_cloud}
    for source in plane.stores.assets.all() if missing else ():
        if source.path and _place(source.asset) in missing:
            _send(plane.cloud_models, source.asset, source.path, source.modified)
            there = source.asset.model_copy(update={"in_cloud": True})
            plane.stores.assets.put(replace(source, asset=there))


def _send(cloud: CloudModels, asset: ModelAsset, path: Path, modified: int) -> None:
    if not path.exists() or version_of(path) != modified:
        raise ModelFileError(
            f"the file of {asset.kind} {asset.name!r} changed or is gone",
            field=asset.kind.value,
            hint="Refresh the model list and submit the job again.",
        )
    log.info("model goes into the cloud", kind=asset.kind.value, name=asset.name)
    try:
        cloud.add(asset, path, rename=False)
    except Unavailable as error:
        raise GenerationFailed(
            f"{asset.kind} {asset.name!r} cannot be put into the cloud: {error.detail}",
            field=asset.kind.value,
            hint=error.hint,
        ) from error


def locate(wanted: str, kind: AssetKind | None, models_dirs: tuple[Path, ...]) -> tuple[AssetKind, Path]:
    """The model that a path, or a name in the model folders, means; its header is checked, not hashed.

    Raises `NotFound`, `ModelFileError`, and `InvalidInput` when several go by the name.
    """
    path = Path(wanted)
    if path.is_file() or (path / DIFFUSERS_INDEX).is_file():
        kind = kind or _info(None, path).kind
        _info(kind, path)
        return kind, path
    name = plain_name(wanted)
    found = dict.fromkeys(
        (of, path) for of, called, path in _named(models_dirs, {}) if called == name and kind in (None, of)
    )
    if len({of for of, _path in found}) > 1:
        raise InvalidInput(
            f"{name!r} is the name of several models",
            field="kind",
            hint=f"Give --kind: {', '.join(sorted(of.value for of, _path in found))}.",
        )
    if not found:
        raise NotFound(
            f"there is no file and no model called {wanted!r}",
            hint="`cloudbrush models` lists what is in the models folder.",
        )
    of, path = list(found)[-1]  # as in the catalogue, the last folder wins
    _info(of, path)
    return of, path


def _in_cloud(plane: ControlPlane, known: Iterable[AssetSource]) -> dict[str, ModelAsset]:
    """The models in the cloud by sha256; what is known of them while it cannot be asked."""
    if not plane.cloud_models:
        return {}
    try:
        found = plane.cloud_models.all()
    except Unavailable as error:
        log.warning("the list of models in the cloud may be old", reason=error.detail, hint=error.hint)
        found = [source.asset for source in known if source.asset.in_cloud]
    return {asset.sha256: asset for asset in found}


def _current(
    kind: AssetKind, name: str, path: Path, known: AssetSource | None, cloud: Mapping[str, ModelAsset]
) -> AssetSource:
    """What is known of the file, read again if it changed since."""
    modified = version_of(path)
    unchanged = known and (known.path, known.modified) == (path, modified)
    asset = known.asset if known and unchanged else read(kind, path, name)
    return AssetSource(asset.model_copy(update={"in_cloud": asset.sha256 in cloud}), path, modified)


def _keep(plane: ControlPlane, source: AssetSource, known: AssetSource | None) -> None:
    if source != known:
        plane.stores.assets.put(source)
        log.info("model found", kind=source.asset.kind.value, name=source.asset.name)


def _place(asset: ModelAsset) -> tuple[AssetKind, str]:
    return asset.kind, asset.name


def _named(
    models_dirs: tuple[Path, ...], known: Mapping[tuple[Path | None, int], str]
) -> Iterator[tuple[AssetKind, str, Path]]:
    """The files with their names, which embeddings in pictures have inside; `known` are those read before."""
    for kind, path in _files(models_dirs):
        if not _is_picture(path):
            yield kind, _name(path), path
            continue
        with suppress(ModelFileError, OSError):  # most pictures are nothing but pictures
            name = known.get((path, version_of(path)))
            yield kind, name or _own_name(path), path


def _files(models_dirs: tuple[Path, ...]) -> Iterator[tuple[AssetKind, Path]]:
    for models_dir in models_dirs:
        for folder, kind in FOLDERS.items():
            suffixes = (".safetensors", *(embedding_picture.SUFFIXES if kind is AssetKind.EMBEDDING else ()))
            yield from ((kind, path) for path in _models(models_dir / folder, suffixes))


def _models(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The model files below a folder, and the diffusers folders, whose parts are no models of their own."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and (path / DIFFUSERS_INDEX).is_file():
            yield path
        elif path.is_dir():
            yield from _models(path, suffixes)
        elif path.suffix.lower() in suffixes and not path.stem.endswith(".preview"):
            yield path


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in embedding_picture.SUFFIXES


def _own_name(path: Path) -> str:
    return (embedding_picture.read(path).name if _is_picture(path) else None) or _name(path)


def read(kind: AssetKind, path: Path, name: str | None = None) -> ModelAsset:
    """What a file or folder is, checked and hashed. Raises `ModelFileError`."""
    info = _info(kind, path)
    return ModelAsset(
        kind=kind,
        name=name or _own_name(path),
        sha256=sha256_of(path),
        size=sum(file.stat().st_size for file in files_of(path)),
        is_folder=path.is_dir(),
        family=info.family,
        native_size=_paintable(info.native_size),
    )


def _info(kind: AssetKind | None, path: Path) -> model_file.ModelInfo:
    """What the file is; None of a kind wanted takes any."""
    if path.is_dir():
        info = read_folder(path)
    elif _is_picture(path):
        embedding_picture.read(path)  # or it is nothing but a picture
        info = model_file.ModelInfo(AssetKind.EMBEDDING)
    else:
        with path.open("rb") as file:
            info = model_file.read_info(file)
    if kind not in (None, info.kind):
        raise ModelFileError(f"this is {info.kind.phrase}; {kind.phrase} is wanted here")
    return info


def _paintable(side: int) -> int:
    """The nearest side an image may have."""
    return min(max(round(side / SIDE_STEP) * SIDE_STEP, MIN_SIDE), MAX_SIDE)
