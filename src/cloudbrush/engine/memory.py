"""Memory that runs out: recognised whatever device it is, and explained to the person who asked."""

from __future__ import annotations

import gc

import torch

from cloudbrush.domain.errors import GenerationFailed

_CPU_MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "defaultcpuallocator",
    "mps backend out of memory",
)


def ran_out(error: Exception) -> bool:
    """Whether an error says that the device has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _CPU_MESSAGES)


def release() -> None:
    """Give back what only caches hold."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_large(what: str) -> GenerationFailed:
    """The error for something that does not fit even when it is alone."""
    return GenerationFailed(
        f"{what} does not fit into this worker's memory",
        field="width",
        hint="Choose a smaller width and height, or an endpoint with more memory.",
    )
