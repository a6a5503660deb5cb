"""Model files on this machine: where they are already, or fetched and kept as long as there is room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloudbrush.domain.errors import NotFound
from cloudbrush.domain.invocation import AssetRef
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.digest import files_of, sha256_of, version_of
from cloudbrush.worker.model_shelf import ModelShelf, check


class ModelCache:
    """Files by sha256. Several workers may share the directory; each file is fetched by one of them."""

    def __init__(self, blobs: Blobs, directory: Path, capacity: int, given: Path | None = None) -> None:
        """At most `capacity` bytes in `directory`; what lies in the folder `given` needs no fetching."""
        self._blobs = blobs
        self._given = given
        self._shelf = ModelShelf(blobs, directory, capacity)
        self._verified: dict[Path, tuple[int, str]] = {}  # version on disk and sha256

    @contextmanager
    def holding(self, asset: AssetRef) -> Iterator[Path]:
        """The asset's file, there for as long as the context lasts.

        Raises `ModelFileError`, `NotFound`, `Unavailable`.
        """
        if path := self._near(asset) or self._delivered(asset):
            yield path
            return
        with self._shelf.holding(asset) as path:
            yield path

    def _near(self, asset: AssetRef) -> Path | None:
        """A directory store on this machine needs no copy; its file is checked once per change."""
        path = self._blobs.local_path(asset.key)
        if path is None:
            return None
        if not path.exists():
            raise NotFound(f"the file of {asset.kind} {asset.name!r} is gone", field=asset.kind.value)
        path = path.resolve()
        check(asset, self._sha256(path))
        return path

    def _delivered(self, asset: AssetRef) -> Path | None:
        """SageMaker lays out what an endpoint's model consists of before the worker starts."""
        if self._given is None or not self._given.is_dir():
            return None
        files = self._given.rglob("*.safetensors")
        folders = (index.parent for index in self._given.rglob("model_index.json"))
        for path in sorted(files if asset.key.endswith(".safetensors") else folders):
            size = sum(file.stat().st_size for file in files_of(path))
            if size == asset.size and self._sha256(path) == asset.sha256:
                return path
        return None

    def _sha256(self, path: Path) -> str:
        version = version_of(path)
        known = self._verified.get(path)
        if known is None or known[0] != version:
            self._verified[path] = known = version, sha256_of(path)
        return known[1]
