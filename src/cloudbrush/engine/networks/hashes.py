"""Hashes of network files as the WebUI prints them (specification 4.1, 4.2)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cloudbrush.domain.model_file import Header

SHORT = 12  # hexadecimal digits shown
_BLOCK = 2**20  # bytes read at once


def lora_hash(path: Path, header: Header) -> str:
    """The hash of a LoRA: from its metadata, else the sha256 of what follows the header; 12 digits."""
    stored = header.metadata.get("sshs_model_hash")
    return stored[:SHORT] if stored else sha256_from(path, header.size)[:SHORT]


def sha256_from(path: Path, start: int = 0) -> str:
    """sha256 of the file from byte `start` to its end, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
