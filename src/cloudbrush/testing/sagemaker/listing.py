"""Filters, order and pages of the List operations, as the API reference of ListEndpoints describes them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cloudbrush.testing.sagemaker.errors import Invalid

PAGE = 10  # entries, where MaxResults does not say
SORTED_BY = {"CreationTime": "CreationTime", "Status": "EndpointStatus"}  # Name: by the name's own member
DIGITS = 20  # of microseconds since 1970 in a sort key


def page(title: str, entries: list[dict[str, Any]], asked: dict[str, Any], *, name: str) -> dict[str, Any]:
    """The page that was asked for, newest first by default, and NextToken if it is not the last.

    Raises `Invalid` for a token that is none of ours.
    """
    wanted = [entry for entry in entries if _matches(entry, asked, name)]
    key = SORTED_BY.get(asked.get("SortBy", "CreationTime"), name)
    descending = asked.get("SortOrder", "Descending") == "Descending"
    wanted.sort(key=lambda entry: _place(entry, key, name), reverse=descending)
    if "NextToken" in asked:
        after = _read(asked["NextToken"])
        wanted = [
            entry
            for entry in wanted
            if (_place(entry, key, name) < after if descending else _place(entry, key, name) > after)
        ]
    size = asked.get("MaxResults", PAGE)
    answer: dict[str, Any] = {title: wanted[:size]}
    if len(wanted) > size:
        answer["NextToken"] = _written(_place(wanted[size - 1], key, name))
    return answer


def _matches(entry: dict[str, Any], asked: dict[str, Any], name: str) -> bool:
    created, modified = entry["CreationTime"], entry.get("LastModifiedTime", entry["CreationTime"])
    bounds: dict[str, Callable[[datetime], bool]] = {
        "CreationTimeAfter": lambda at: created >= at,
        "CreationTimeBefore": lambda at: created < at,
        "LastModifiedTimeAfter": lambda at: modified > at,
        "LastModifiedTimeBefore": lambda at: modified < at,
    }
    return (
        asked.get("NameContains", "") in entry[name]
        and asked.get("StatusEquals", entry.get("EndpointStatus")) == entry.get("EndpointStatus")
        and all(
            holds(datetime.fromtimestamp(asked[bound], UTC))
            for bound, holds in bounds.items()
            if bound in asked
        )
    )


def _place(entry: dict[str, Any], key: str, name: str) -> tuple[str, str]:
    """Where an entry stands in the order; names make it total."""
    value = entry[key]
    text = f"{int(value.timestamp() * 1e6):0{DIGITS}d}" if isinstance(value, datetime) else str(value)
    return text, entry[name]


def _written(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("\0".join(place).encode()).decode()


def _read(token: str) -> tuple[str, str]:
    try:
        value, name = base64.urlsafe_b64decode(token).decode().split("\0")
    except ValueError as error:
        raise Invalid("NextToken is not one of this operation.") from error
    return value, name
