"""A generation's fields as the command line gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudbrush.domain import image_file, infotext
from cloudbrush.domain.asset_kind import AssetKind
from cloudbrush.domain.errors import InvalidInput


def chosen(asked: Mapping[str, Any], others: Sequence[str], like: Path | None = None) -> dict[str, Any]:
    """The fields told by `like`, then those asked for (None: not), then `name.name=value` pairs."""
    given = told_by(like) if like else {}
    given |= {name: value for name, value in asked.items() if value is not None}
    for pair in others:
        _set(given, pair)
    return given


def told_by(path: Path) -> dict[str, Any]:
    """The fields in the parameters of an image or a text file; raises `InvalidInput` when it has none."""
    data = bytes_of(path, "--from")
    try:
        text = data.decode() if path.suffix.lower() == ".txt" else image_file.describe(data).infotext
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no UTF-8 text", field="--from") from error
    if not text:
        raise InvalidInput(
            f"{path} has no parameters inside",
            field="--from",
            hint="Images that were edited or sent through a messenger often lose them.",
        )
    return infotext.to_generation_fields(infotext.parse(text))


def bytes_of(path: Path, field: str) -> bytes:
    """A file's content; raises `InvalidInput`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field=field) from error


def asset_kind(name: str | None) -> AssetKind | None:
    """A kind of model files by its name; raises `InvalidInput` for one that there is not."""
    if name is not None and name not in list(AssetKind):
        raise InvalidInput(
            f"there is no kind {name!r}", field="kind", hint=f"Known are {', '.join(AssetKind)}."
        )
    return AssetKind(name) if name else None


def _set(given: dict[str, Any], pair: str) -> None:
    """Put the value of `a.b=value` where it belongs."""
    path, equals, value = pair.partition("=")
    *groups, name = path.strip().split(".")
    if not equals or not name:
        raise InvalidInput(f"{pair!r} is not of the form FIELD=VALUE", field="--set")
    for group in groups:
        given = given.setdefault(group, {})
        if not isinstance(given, dict):
            raise InvalidInput(f"{path!r} is in no group of fields", field="--set")
    given[name] = value
