"""Model files by name: what is known of each."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cloudbrush.domain.asset_kind import AssetKind

__all__ = ["CLOUD_SUFFIX", "AssetKind", "ModelAsset", "plain_name"]

CLOUD_SUFFIX = " [sagemaker]"  # marks models in the cloud wherever people choose one


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
    in_cloud: bool = False  # in the bucket, where workers anywhere find it

    @property
    def shown_name(self) -> str:
        """The name as lists show it."""
        return f"{self.name}{CLOUD_SUFFIX}" if self.in_cloud else self.name

    @property
    def key(self) -> str:
        """Where the bytes are in the blob store."""
        return f"models/{self.sha256}" if self.is_folder else f"models/{self.sha256}.safetensors"

    @property
    def short_hash(self) -> str:
        """The hash as the WebUI prints it."""
        return self.sha256[:10]


def plain_name(name: str) -> str:
    """A model's name, whether it was given as lists show it or not."""
    return name.removesuffix(CLOUD_SUFFIX)
