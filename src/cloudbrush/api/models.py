"""/models: the catalogue of model files."""

from __future__ import annotations

from fastapi import APIRouter

from cloudbrush.api.asking import Plane
from cloudbrush.control import assets as control
from cloudbrush.domain.asset import AssetKind, ModelAsset

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def list_models(plane: Plane, kind: AssetKind | None = None) -> list[ModelAsset]:
    """The model files, by kind and name; the folders are looked through first."""
    control.refresh(plane)
    return control.find(plane, kind)
