"""Model files by name: what is known of each."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cloudbrush.domain.asset_kind import AssetKind

__all__ = ["AssetKind", "ModelAsset"]


class ModelAsset(BaseModel):
    """A model file known to the catalogue, addressed by kind and name, identified by its content."""

    model_config = ConfigDict(frozen=True)

    kind: AssetKind
    name: str  # file stem, as people write it
    sha256: str
    size: int  # bytes
    is_folder: bool = False  # a diffusers folder instead of one file
    family: str | None = None  # sd1, ... as read from the file, None when unknown
    native_size: int = 512  # pixels a side the model was trained at

    @property
    def key(self) -> str:
        """Where the bytes are in the blob store."""
        return f"models/{self.sha256}" if self.is_folder else f"models/{self.sha256}.safetensors"

    @property
    def short_hash(self) -> str:
        """The hash as the WebUI prints it."""
        return self.sha256[:10]
