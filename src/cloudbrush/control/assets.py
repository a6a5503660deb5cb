"""The catalogue: which model files there are, read off the model folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import structlog

from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain import model_file
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.stores.base import AssetSource

log = structlog.get_logger()

# The WebUI's folder names, so that a collection can be linked or moved in as it is.
FOLDERS = {
    "Stable-diffusion": AssetKind.CHECKPOINT,
    "VAE": AssetKind.VAE,
    "Lora": AssetKind.LORA,
    "hypernetworks": AssetKind.HYPERNETWORK,
    "embeddings": AssetKind.EMBEDDING,
    "ESRGAN": AssetKind.UPSCALER,
}


def find(plane: ControlPlane, kind: AssetKind | None = None) -> list[ModelAsset]:
    """The catalogue, by kind and name."""
    return [source.asset for source in plane.stores.assets.all() if kind in (None, source.asset.kind)]


def refresh(plane: ControlPlane) -> None:
    """Bring the catalogue up to date with the folders; a file is read and hashed only when it changed."""
    known = {(source.asset.kind, source.asset.name): source for source in plane.stores.assets.all()}
    found = {(kind, path.stem): (kind, path) for kind, path in _files(plane.models_dirs)}
    for kind, name in known.keys() - found.keys():
        plane.stores.assets.delete(kind, name)
    for place, (kind, path) in found.items():
        modified = path.stat().st_mtime_ns
        source = known.get(place)
        if source is None or (source.path, source.modified) != (path, modified):
            try:
                source = AssetSource(_read(kind, path), path, modified)
            except ModelFileError as error:
                log.warning("model file left out", file=path.name, reason=error.detail)
                continue
            plane.stores.assets.put(source)
            log.info("model found", kind=kind.value, name=path.stem)
        plane.stores.blobs.adopt(source.asset.key, path)


def _files(models_dirs: tuple[Path, ...]) -> Iterator[tuple[AssetKind, Path]]:
    for models_dir in models_dirs:
        for folder, kind in FOLDERS.items():
            for path in sorted((models_dir / folder).rglob("*.safetensors")):
                if path.is_file():
                    yield kind, path


def _read(kind: AssetKind, path: Path) -> ModelAsset:
    with path.open("rb") as file:
        info = model_file.read_info(file)
        if kind is AssetKind.CHECKPOINT and info.kind is not AssetKind.CHECKPOINT:
            raise ModelFileError(
                f"it lies among the checkpoints but is a {info.kind or 'file of unknown kind'}"
            )
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelAsset(
        kind=kind,
        name=path.stem,
        sha256=sha256,
        size=path.stat().st_size,
        family=info.family,
        native_size=info.native_size,
    )
