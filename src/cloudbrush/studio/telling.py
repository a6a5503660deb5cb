"""Errors on their way to a person: as a short message, or as words beside what they are about."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from functools import wraps
from html import escape
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from cloudbrush.domain.errors import CloudbrushError
from cloudbrush.domain.job import Problem

TOAST = 6  # seconds

P = ParamSpec("P")
R = TypeVar("R")


def telling(handler: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """A handler whose errors reach the person as a short message."""

    @wraps(handler)
    async def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(*args, **kwargs)
        except CloudbrushError as error:
            raise toast(error) from error

    return told


def toast(error: CloudbrushError) -> gr.Error:
    """The short message."""
    words = " ".join(filter(None, (sentence(error.detail), error.hint)))
    return gr.Error(words, duration=TOAST, title="Not done", print_exception=False)


def problem(error: CloudbrushError | Problem, control: str = "") -> str:
    """An error for people: what happened and what to do about it.

    `control` is the element id of the control with the wrong value, which the page marks (studio.js); each
    refusal has an id, so that the same words mark it again.
    """
    hint = f" <span>{escape(error.hint)}</span>" if error.hint else ""
    place = f' data-control="{escape(control)}" data-refusal="{uuid.uuid4()}"' if control else ""
    return f"<p{place}><b>{escape(sentence(error.detail))}</b>{hint}</p>"


def sentence(detail: str) -> str:
    """The detail as a sentence of its own."""
    return f"{detail[:1].upper()}{detail[1:]}" + ("" if detail.endswith(".") else ".")
