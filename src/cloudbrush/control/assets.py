"""The catalogue: which model files there are, read off the model folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain import embedding_picture, model_file
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import ModelFileError
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
    """Bring the catalogue up to date with the folders; a file is read and hashed only when it changed.

    What cannot be used is left out, and the log says why.
    """
    with plane.cataloguing:
        known = {(source.asset.kind, source.asset.name): source for source in plane.stores.assets.all()}
        names = {(source.path, source.modified): source.asset.name for source in known.values()}
        found = {(kind, name): path for kind, name, path in _named(plane.models_dirs, names)}
        for place, path in found.items():
            kind, name = place
            try:
                source = _current(kind, name, path, known.get(place))
                if source is not known.pop(place, None):
                    plane.stores.assets.put(source)
                    log.info("model found", kind=kind.value, name=source.asset.name)
                plane.stores.blobs.adopt(source.asset.key, path)
            except (ModelFileError, OSError, UnicodeError) as error:
                log.warning("model left out", file=ascii(path.name), reason=str(error))
        for kind, name in known:  # gone, or of no use any more
            plane.stores.assets.delete(kind, name)


def _current(kind: AssetKind, name: str, path: Path, known: AssetSource | None) -> AssetSource:
    """What is known of the file, read again if it changed since."""
    modified = version_of(path)
    if known and (known.path, known.modified) == (path, modified):
        return known
    return AssetSource(_read(kind, name, path), path, modified)


def _named(
    models_dirs: tuple[Path, ...], known: Mapping[tuple[Path, int], str]
) -> Iterator[tuple[AssetKind, str, Path]]:
    """The files with their names, which embeddings in pictures have inside; `known` are those read before."""
    for kind, path in _files(models_dirs):
        if path.suffix.lower() not in embedding_picture.SUFFIXES:
            yield kind, path.name if path.is_dir() else path.stem, path
            continue
        with suppress(ModelFileError, OSError):  # most pictures are nothing but pictures
            name = known.get((path, version_of(path)))
            yield kind, name or embedding_picture.read(path).name or path.stem, path


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


def _read(kind: AssetKind, name: str, path: Path) -> ModelAsset:
    info = _info(kind, path)
    return ModelAsset(
        kind=kind,
        name=name,
        sha256=sha256_of(path),
        size=sum(file.stat().st_size for file in files_of(path)),
        is_folder=path.is_dir(),
        family=info.family,
        native_size=_paintable(info.native_size),
    )


def _info(kind: AssetKind, path: Path) -> model_file.ModelInfo:
    if path.is_dir():
        info = read_folder(path)
    elif path.suffix.lower() in embedding_picture.SUFFIXES:
        info = model_file.ModelInfo(AssetKind.EMBEDDING)
    else:
        with path.open("rb") as file:
            info = model_file.read_info(file)
    if kind is not info.kind:
        raise ModelFileError(f"this is {info.kind.phrase}; its folder is for another kind: {kind}")
    return info


def _paintable(side: int) -> int:
    """The nearest side an image may have."""
    return min(max(round(side / SIDE_STEP) * SIDE_STEP, MIN_SIDE), MAX_SIDE)
