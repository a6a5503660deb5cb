"""Requests and answers by the service models that botocore ships: members, limits, where each one travels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session

from cloudbrush.testing.sagemaker.errors import Invalid

# The patterns are Java's: its classes in Python's words, as far as the two models use them.
IN_PYTHON = {
    r"[\p{Print}]": "[\x20-\x7e]",
    r"\p{ASCII}": "[\x00-\x7f]",
    r"\p{L}": r"\w",
    r"\p{N}": r"\d",
    r"\p{Z}": r"\s",
    r"\z": r"\Z",
}


@cache
def operation(service: str, name: str) -> Any:
    """botocore's model of one operation."""
    return _service(service).operation_model(name)


@cache
def _service(name: str) -> Any:
    return botocore.session.get_session().get_service_model(name)


def check(shape: Any, values: Mapping[str, Any]) -> None:
    """Refuse values outside the model's limits, in the service's words. Raises `Invalid`."""
    wrong = list(_violations(shape, values, ""))
    if wrong:
        plural = "s" if len(wrong) > 1 else ""
        raise Invalid(f"{len(wrong)} validation error{plural} detected: {'; '.join(wrong)}")


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name in shape.required_members:
            if name not in value:
                yield f"Value at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _violations(member, value[name], _join(path, name))
        return
    if shape.type_name == "list":
        for index, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{index}.member")
    for constraint in _broken(shape, value):
        shown = "" if shape.metadata.get("sensitive") or shape.type_name == "list" else f" '{value}'"
        yield f"Value{shown} at '{path}' failed to satisfy constraint: Member must {constraint}"


def _broken(shape: Any, value: Any) -> Iterator[str]:
    """Which of its shape's constraints a value breaks."""
    limits = shape.metadata
    number = shape.type_name in ("integer", "long", "float", "double")
    size = value if number else len(value) if isinstance(value, str | bytes | list) else None
    what = "have value" if number else "have length"
    if size is not None and size < limits.get("min", size):
        yield f"{what} greater than or equal to {limits['min']}"
    if size is not None and size > limits.get("max", size):
        yield f"{what} less than or equal to {limits['max']}"
    if shape.type_name == "string":
        if limits.get("enum") and value not in limits["enum"]:
            yield f"satisfy enum value set: [{', '.join(limits['enum'])}]"
        if "pattern" in limits and not _compiled(limits["pattern"]).fullmatch(value):
            yield f"satisfy regular expression pattern: {limits['pattern']}"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for java, python in IN_PYTHON.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def _join(path: str, name: str) -> str:
    """A member's path as the service writes it: lower camel case, dots between."""
    word = name[:1].lower() + name[1:]
    return f"{path}.{word}" if path else word


def from_rest(shape: Any, path: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """A REST request's members, gathered from where the model says they travel."""
    values: dict[str, Any] = {}
    for name, member in shape.members.items():
        where = member.serialization.get("location")
        travels_as = member.serialization.get("name", name)
        text = (
            path.get(travels_as) if where == "uri" else headers.get(travels_as) if where == "header" else None
        )
        if text is not None:
            values[name] = int(text) if member.type_name == "integer" else text
    payload = shape.serialization.get("payload")
    if payload and body:
        values[payload] = body
    return values


def to_headers(shape: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """Those members of an answer that travel in headers."""
    return {
        member.serialization["name"]: str(values[name])
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header" and values.get(name) is not None
    }
