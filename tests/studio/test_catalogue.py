"""The model files as entries of dropdowns and as cards."""

from __future__ import annotations

import pytest

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.studio import catalogue, networks


def asset(kind: AssetKind, name: str, *, in_cloud: bool) -> ModelAsset:
    return ModelAsset(kind=kind, name=name, sha256="0123456789abcdef" * 4, size=1, in_cloud=in_cloud)


@pytest.mark.parametrize("path", ["checkpoint", "hires.checkpoint", "refiner.checkpoint"])
def test_checkpoints_in_the_cloud_are_marked_and_named_plainly(path: str) -> None:
    assets = [asset(AssetKind.CHECKPOINT, name, in_cloud=name == "far") for name in ("far", "near")]
    assert catalogue.choices(path, assets)[-2:] == [
        ("far [sagemaker] [0123456789]", "far"),
        ("near [0123456789]", "near"),
    ]


def test_other_files_in_the_cloud_are_marked_too() -> None:
    assert ("far [sagemaker]", "far") in catalogue.choices(
        "vae", [asset(AssetKind.VAE, "far", in_cloud=True)]
    )


def test_a_card_shows_the_mark_and_writes_the_plain_name() -> None:
    (kind,) = [kind for kind in networks.KINDS if kind.asset is AssetKind.LORA]
    card = networks.cards(kind, [asset(AssetKind.LORA, "far", in_cloud=True)])
    assert "<b>far [sagemaker]</b>" in card
    assert 'data-insert="&lt;lora:far:1&gt;"' in card
