"""The models in the bucket: their bytes by content, and beside each a small object that says what it is.

Whoever shares the bucket sees the same models, with nothing else shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog
from pydantic import ValidationError

from cloudbrush.domain.asset import ModelAsset
from cloudbrush.domain.errors import Conflict, NotFound, Stale
from cloudbrush.stores.base import Blobs, Entry
from cloudbrush.stores.digest import files_of

log = structlog.get_logger()
FOLDER = "models"
CARD = ".json"
SHA256 = re.compile(r"[0-9a-f]{64}")
LONGEST_NAME = 255  # characters, as a generation takes it
READ_AT_ONCE = 8  # cards
OnProgress = Callable[[int], None]
"""Called with the bytes that have arrived so far."""


class CloudModels:
    """What is in the bucket. A card is read once, and again when it is another."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._read: dict[Entry, ModelAsset | None] = {}

    def all(self) -> list[ModelAsset]:
        """Every model; of those that share kind and name the one that came last. Raises `Unavailable`."""
        cards = [entry for entry in self._blobs.entries(FOLDER) if entry.key.endswith(CARD)]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            new = [card for card in cards if card not in self._read]
            fresh = dict(zip(new, pool.map(self._card, new), strict=True))
        self._read = {card: fresh[card] if card in fresh else self._read[card] for card in cards}
        found = {}
        for card in sorted(cards, key=lambda card: (card.modified, card.key)):
            if asset := self._read[card]:
                found[asset.kind, asset.name] = asset
        return [found[place] for place in sorted(found)]

    def has(self, asset: ModelAsset) -> bool:
        """Whether the model is there, under whatever name. Raises `Unavailable`."""
        return self._blobs.exists(_card_key(asset))

    def add(
        self,
        asset: ModelAsset,
        path: Path,
        on_progress: OnProgress = lambda _done: None,
        *,
        rename: bool = True,
    ) -> bool:
        """Put a model there; whether anything had to be sent.

        Bytes that are there already are not sent again. Unless `rename` is False the model goes by this
        asset's name from now on. Raises `Conflict` when the file changes meanwhile, `Unavailable`.
        """
        done, sent = 0, False
        for file in files_of(path):
            key = asset.key if file == path else f"{asset.key}/{file.relative_to(path).as_posix()}"
            sent |= self._send(key, file, partial(_further, on_progress, done))
            done += file.stat().st_size
            on_progress(done)
        card = asset.model_copy(update={"in_cloud": True}).model_dump_json().encode()
        with suppress(Conflict):
            self._blobs.put(_card_key(asset), card, replace=rename)
        return sent

    def _send(self, key: str, file: Path, on_progress: OnProgress) -> bool:
        """Send a file unless it is there; whether it had to be."""
        if self._blobs.exists(key):
            return False
        try:
            self._blobs.upload(key, file, on_progress)
        except Stale:
            raise
        except Conflict:  # somebody else was faster
            return False
        return True

    def _card(self, entry: Entry) -> ModelAsset | None:
        try:
            asset = ModelAsset.model_validate_json(self._blobs.get(entry.key))
        except NotFound:
            return None  # taken away meanwhile
        except ValidationError as error:
            log.warning("model in the cloud left out", card=entry.key, reason=str(error))
            return None
        if _card_key(asset) != entry.key or not SHA256.fullmatch(asset.sha256):
            log.warning("model in the cloud left out", card=entry.key, reason="it speaks of another model")
            return None
        if not 0 < len(asset.name) <= LONGEST_NAME or "\0" in asset.name:
            log.warning("model in the cloud left out", card=entry.key, reason="nobody could write its name")
            return None
        return asset.model_copy(update={"in_cloud": True})


def _card_key(asset: ModelAsset) -> str:
    return f"{FOLDER}/{asset.sha256}{CARD}"


def _further(on_progress: OnProgress, before: int, done: int) -> None:
    on_progress(before + done)
