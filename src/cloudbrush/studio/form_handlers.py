"""What the forms do: restored, filled from infotexts, submitted. Plain functions over a client."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from cloudbrush.client import Client
from cloudbrush.domain import infotext
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import CloudbrushError, NotFound
from cloudbrush.domain.generation import RANDOM_SEED
from cloudbrush.studio import catalogue, cloud_panel, draft, networks, output, pictures, png_info, values
from cloudbrush.studio.live import JobView
from cloudbrush.studio.networks import Kind
from cloudbrush.studio.pictures import Boxes
from cloudbrush.studio.recall import Recalled, recall
from cloudbrush.studio.telling import problem, telling
from cloudbrush.studio.values import IMG2IMG, INPAINT, OVER, SETTING_PATHS, UPLOAD, WAYS

# Of the dropdowns with model files, among the names of both forms.
MODEL_NAMES = tuple(name for name in draft.NAMES if name.rpartition("/")[2] in catalogue.KINDS)


class FormHandlers:
    """The handlers of the forms of one mounted studio."""

    def __init__(self, client: Client, cache: str, usual: Mapping[str, Any]) -> None:
        """`cache` is the folder Gradio serves files from; `usual` the values of a fresh page by name."""
        self._client = client
        self._cache = cache
        self._usual = usual

    @telling
    async def restore(self, remembered: dict[str, Any] | None) -> list[Any]:
        """Fill the forms as they were left, and show the job that was shown; values as named in the draft."""
        known: dict[str, Any] = draft.restored(remembered)
        assets = await self._client.models()
        for name in MODEL_NAMES:
            path = name.rpartition("/")[2]
            known[name] = catalogue.update(path, assets, known.get(name))
        side = catalogue.native_size(assets, known["checkpoint"]["value"])
        for task in values.MODELS:
            known = {draft.name(task, "width"): side, draft.name(task, "height"): side, **known}
        endpoints = await cloud_panel.listed_endpoints(self._client)
        chosen = known.get(draft.ENDPOINT, cloud_panel.NO_ENDPOINT)
        choices = cloud_panel.endpoint_choices(endpoints, chosen)
        known[draft.ENDPOINT] = gr.update(choices=choices, value=chosen)
        for task in values.MODELS:
            name = draft.name(task, values.OVERRIDES)
            known[name] = chips(known.get(name, []))
        # What is as usual is left alone: each value that is set costs the page a moment.
        told = {name: value for name, value in known.items() if value != self._usual.get(name)}
        return [told.get(name, gr.skip()) for name in draft.NAMES]

    @telling
    async def restore_pictures(self, mode: str, image_id: str, mask_id: str) -> list[Any]:
        """The chosen way of img2img with the pictures of the last job, as far as they are still there."""
        if mode == UPLOAD:
            boxes = [gr.skip(), await self._fetched(image_id), await self._fetched(mask_id)]
        else:
            boxes = [await self._fetched(image_id) if mode == OVER else gr.skip(), gr.skip(), gr.skip()]
        return [gr.Tabs(selected=mode if mode in WAYS else OVER), *boxes]

    @telling
    async def restore_editor(self, mode: str, image_id: str) -> Any:
        """The picture of the last job in the editor, if that was where it came from."""
        picture = await self._fetched(image_id) if mode == INPAINT else None
        return pictures.unpainted(picture) if picture else gr.skip()

    async def _fetched(self, picture_id: str) -> str | None:
        try:
            return await pictures.fetch(self._client, self._cache, picture_id) if picture_id else None
        except NotFound:
            return None

    async def submit(self, task: str, ids: Mapping[str, str], endpoint: str, *given: Any) -> tuple[Any, str]:
        """Submit a job: its Inference ID, or what is wrong. An endpoint that cannot take it runs nothing.

        `ids` are the element ids of the controls by path.
        """
        named = dict(zip((*values.FIELDS[task], *SETTING_PATHS), given, strict=True))
        try:
            asked = values.generation(task, named)
            key = str(uuid.uuid4())
            job = await self._client.submit(asked, endpoint=endpoint or None, idempotency_key=key)
        except CloudbrushError as error:
            return gr.skip(), problem(error, ids.get(error.field or "", ""))
        return job.id, ""

    @telling
    async def hand_in(self, mode: str, *boxes: Any) -> tuple[str, str]:
        """The ids of the picture to paint over and of its mask."""
        return await pictures.hand_in(self._client, Boxes(*boxes), mode)

    @telling
    async def detect_size(self, mode: str, *boxes: Any) -> tuple[Any, Any]:
        """Width and height that suit the picture to paint over."""
        picture, _ = Boxes(*boxes).files(mode)
        return pictures.size(picture) if picture else (gr.skip(), gr.skip())

    @telling
    async def native_size(self, checkpoint: str | None) -> tuple[int, int]:
        """Width and height that suit the checkpoint just chosen."""
        side = catalogue.native_size(await self._client.models(AssetKind.CHECKPOINT), checkpoint)
        return side, side

    @telling
    async def choose(self, event: gr.EventData) -> tuple[str, int, int]:
        """The checkpoint whose card was clicked, with the size that suits it."""
        name = str(event.value)
        side = catalogue.native_size(await self._client.models(AssetKind.CHECKPOINT), name)
        return name, side, side

    @telling
    async def refresh_models(self, *chosen: str | None) -> list[Any]:
        """Look for model files again: the dropdowns named by `MODEL_NAMES`."""
        assets = await self._client.models()
        paths = [name.rpartition("/")[2] for name in MODEL_NAMES]
        return [catalogue.update(path, assets, now) for path, now in zip(paths, chosen, strict=True)]

    @telling
    async def cards(self, kind: Kind) -> str:
        """The cards of an extra-network tab."""
        return await networks.network_cards(self._client, kind)

    @telling
    async def paste(self, task: str, text: str, *settings: Any) -> list[Any]:
        """Read the infotext in the prompt box, or of the latest job, into the form; then a notice."""
        text = text.strip() or await self._latest()
        return await self._filled(task, text, settings)

    async def _latest(self) -> str:
        latest = (await self._client.jobs(limit=1)).jobs
        return output.infotext(JobView.of(latest[0]), 0) if latest else ""

    @telling
    async def send_to_txt2img(self, text: str, *settings: Any) -> list[Any]:
        """Lead to txt2img with an infotext's values: the tab, the form, and a notice."""
        return [gr.Tabs(selected=values.TXT2IMG), *await self._filled(values.TXT2IMG, text, settings)]

    @telling
    async def send_to_img2img(self, mode: str, path: str | None, text: str, *settings: Any) -> list[Any]:
        """Lead to img2img with a picture and its values: the tab, the form, a notice, the way, the picture.

        The editor of inpaint is filled by `open_editor`, once the page shows it.
        """
        told: dict[str, Any] = {values.MODE: mode}
        if path:
            width, height = pictures.size(Path(path).read_bytes())
            told |= {"width": width, "height": height}
        form = await self._filled(IMG2IMG, text, settings, told)
        return [gr.Tabs(selected=IMG2IMG), *form, gr.Tabs(selected=mode), path if mode == OVER else gr.skip()]

    async def open_editor(self, path: str | None) -> Any:
        """A picture in the editor, ready to be painted over."""
        return pictures.unpainted(path) if path else gr.skip()

    async def _filled(
        self, task: str, text: str, settings: tuple[Any, ...], also: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """The form's values and a notice; what the infotext does not tell stays as it is."""
        named = dict(zip(SETTING_PATHS, settings, strict=True))
        found = recall(task, text, named, await self._client.models()) if text else Recalled()
        told = {**found.values, **(also or {})}
        if values.OVERRIDES in told:
            told[values.OVERRIDES] = chips(told[values.OVERRIDES])
        return [*(told.get(path, gr.skip()) for path in values.FIELDS[task]), _missing(found)]

    @telling
    async def read_picture(self, path: str | None) -> tuple[str, str]:
        """What is written inside a picture: in words, and the infotext."""
        if not path:
            return png_info.NOTHING, ""
        picture = await self._client.add_picture(Path(path).read_bytes())
        return png_info.described(picture), picture.infotext


def chips(overrides: list[str]) -> Any:
    """The overrides, each also among the entries to choose."""
    return gr.update(choices=overrides, value=overrides)


def _missing(found: Recalled) -> str:
    """What could not be taken over, as a notice."""
    lines = "".join(f"<br>{escape(words)}." for words in found.missing)
    return f"<p><b>Taken over, but for:</b>{lines}</p>" if lines else ""


def reuse_seed(text: str) -> int:
    """The seed in the infotext of the image shown, -1 when there is none."""
    return _seed(text, "Seed")


def reuse_variation(text: str) -> int:
    """The variation seed in the infotext of the image shown, -1 when there is none."""
    return _seed(text, "Variation seed")


def _seed(text: str, label: str) -> int:
    told = infotext.parse(text).get(label, "")
    return int(told) if told.isdecimal() else RANDOM_SEED
