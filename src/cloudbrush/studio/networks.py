"""The tabs beside Generation: model files as cards; a click puts their tag or word into the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import gradio as gr

from cloudbrush.client import Client
from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.studio.theme import tool


@dataclass(frozen=True)
class Kind:
    """One of the tabs."""

    key: str  # in element ids, as the WebUI's
    title: str
    asset: AssetKind
    folder: str  # where its files go, below the model folder
    tag: str = "{name}"  # what a click writes


KINDS = (
    Kind("textual_inversion", "Textual Inversion", AssetKind.EMBEDDING, "embeddings"),
    Kind("hypernetworks", "Hypernetworks", AssetKind.HYPERNETWORK, "hypernetworks", "<hypernet:{name}:1>"),
    Kind("checkpoints", "Checkpoints", AssetKind.CHECKPOINT, "Stable-diffusion", ""),
    Kind("lora", "Lora", AssetKind.LORA, "Lora", "<lora:{name}:1>"),
)
# A click on a checkpoint is told to the server; tags and words are written by the page itself (studio.js).
CHOOSE = """element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-checkpoint]");
  if (card) trigger("select", { value: card.dataset.checkpoint, index: 0 });
});"""


@dataclass(frozen=True)
class NetworkTab:
    """The components of one tab."""

    kind: Kind
    tab: gr.Tab
    refresh: gr.Button
    cards: gr.HTML


Networks = list[NetworkTab]


@contextmanager
def build_networks(task: str) -> Iterator[Networks]:
    """The tabs of a form. What the block builds goes into the first of them, Generation."""
    networks: Networks = []
    with gr.Tabs(elem_id=f"{task}_extra_tabs", elem_classes="extra-tabs"):
        with gr.Tab("Generation", elem_id=f"{task}_generation_tab"):
            yield networks
        networks += [_build_kind(task, kind) for kind in KINDS]


def _build_kind(task: str, kind: Kind) -> NetworkTab:
    name = f"{task}_{kind.key}"
    with gr.Tab(kind.title, elem_id=f"{name}_tab") as tab:
        with gr.Row(elem_classes="with-tools"):
            gr.Textbox(
                show_label=False,
                container=False,
                placeholder=f"Search {kind.title}",
                elem_id=f"{name}_extra_search",
                elem_classes="network-search",
                min_width=0,
            )
            refresh = tool("↻", f"{name}_extra_refresh")
        cards = gr.HTML(
            "", elem_id=f"{name}_cards", elem_classes="networks", js_on_load=CHOOSE, min_height=40
        )
    return NetworkTab(kind, tab, refresh, cards)


async def network_cards(client: Client, kind: Kind) -> str:
    """The cards of a tab, or what to do to have some."""
    return cards(kind, await client.models(kind.asset))


def cards(kind: Kind, assets: Sequence[ModelAsset]) -> str:
    """The files as cards, or where to put some."""
    if not assets:
        return (
            f'<div class="empty"><p>No {escape(kind.title)} files yet</p>'
            f"<p>Put .safetensors files into the folder <code>models/{kind.folder}</code> of Cloudbrush's"
            " data and press ↻.</p></div>"
        )
    return f'<div class="cards">{"".join(_card(kind, asset) for asset in assets)}</div>'


def _card(kind: Kind, asset: ModelAsset) -> str:
    name = escape(asset.name, quote=True)
    told = " · ".join(filter(None, (asset.family, _size(asset.size), asset.short_hash)))
    if kind.asset is AssetKind.CHECKPOINT:
        does, tip = f'data-checkpoint="{name}"', f"Paint with {name}"
    else:
        tag = escape(kind.tag.format(name=asset.name), quote=True)
        place = "either" if kind.asset is AssetKind.EMBEDDING else "prompt"
        does, tip = f'data-insert="{tag}" data-place="{place}"', f"Add {tag} to the prompt, or take it out"
    shown = escape(asset.shown_name, quote=True)
    return (
        f'<button type="button" class="card-item" {does} title="{tip}" '
        f'data-search="{shown} {asset.short_hash}">'
        f"<b>{shown}</b><span>{escape(told)}</span></button>"
    )


def _size(size: int) -> str:
    """A file's size as people read it."""
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{max(size / 2**20, 0.1):.1f} MB"
