"""The cards of the extra-network tabs."""

from __future__ import annotations

import pytest

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.studio import networks
from cloudbrush.studio.networks import KINDS, Kind
from tests.studio.fake_client import FakeClient


def asset(kind: AssetKind, name: str) -> ModelAsset:
    return ModelAsset(kind=kind, name=name, sha256="0123456789" + "0" * 54, size=3 * 2**20, family="sd1")


@pytest.mark.parametrize(
    ("key", "does"),
    [
        ("textual_inversion", 'data-insert="style" data-place="either"'),
        ("hypernetworks", 'data-insert="&lt;hypernet:style:1&gt;" data-place="prompt"'),
        ("checkpoints", 'data-checkpoint="style"'),
        ("lora", 'data-insert="&lt;lora:style:1&gt;" data-place="prompt"'),
    ],
)
def test_a_click_writes_what_the_webui_writes(key: str, does: str) -> None:
    kind = next(kind for kind in KINDS if kind.key == key)
    html = networks.cards(kind, [asset(kind.asset, "style")])
    assert does in html
    assert "sd1 · 3.0 MB · 0123456789" in html


def test_the_tabs_are_the_webuis_in_its_order() -> None:
    assert [kind.title for kind in KINDS] == ["Textual Inversion", "Hypernetworks", "Checkpoints", "Lora"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
async def test_an_empty_tab_says_where_files_go(client: FakeClient, kind: Kind) -> None:
    client.assets = []
    html = await networks.network_cards(client, kind)  # type: ignore[arg-type]
    assert f"<code>models/{kind.folder}</code>" in html


def test_names_are_never_markup() -> None:
    html = networks.cards(KINDS[3], [asset(AssetKind.LORA, '"><script>')])
    assert "<script>" not in html
    assert '""' not in html
