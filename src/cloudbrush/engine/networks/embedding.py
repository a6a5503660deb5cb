"""Textual inversion (arXiv 2208.01618): words that stand for learned vectors; specification 4.2 and 2.4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cloudbrush.domain import embedding_picture
from cloudbrush.domain.errors import ModelFileError
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models import weights
from cloudbrush.engine.networks import files, hashes

MAX_VECTORS = 75  # what a chunk of tokens holds; an embedding is never split
_PAIR = ("clip_l", "clip_g")  # SDXL's text encoders, in the order of the checkpoint
_PARAM = re.compile(r"string_to_param\..*\Z", re.DOTALL)
_FAMILIES = {(768,): "SD1", (1024,): "SD2", (768, 1280): "SDXL"}


@dataclass(frozen=True, eq=False)
class Embedding:
    """A learned word: its vectors for each text encoder, (n, width) float32 on the CPU."""

    name: str
    vectors: tuple[Tensor, ...]
    shorthash: str  # as the WebUI prints it in `TI hashes`

    @property
    def count(self) -> int:
        """Token slots it takes in a prompt."""
        return self.vectors[0].shape[0]

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the vectors for each text encoder."""
        return tuple(vectors.shape[1] for vectors in self.vectors)

    def check_widths(self, widths: Sequence[int]) -> None:
        """Raise `ModelFileError` unless it fits text encoders with token vectors of these widths."""
        if self.widths != tuple(widths):
            raise ModelFileError(
                f"the embedding {self.name!r} is for {_family(self.widths)}; the checkpoint is"
                f" {_family(tuple(widths))}",
                field="prompt",
                hint="Choose a checkpoint of its family, or take the word out of the prompt.",
            )


def read_embedding(file: ModelFile) -> Embedding:
    """The embedding in a `.safetensors` file or in a picture; raises `ModelFileError` when it is none.

    A picture may give it another name than its file has.
    """
    with weights.readable(file.path), file.path.open("rb") as opened:
        start = opened.read(12)
    if embedding_picture.is_picture(start):
        content = embedding_picture.read(file.path)
        name, found = content.name or file.name, {"emb_params": _numbers(content.vectors)}
    else:
        header = weights.header_of(file.path)
        if not _is_embedding(header.tensors):
            raise files.wrong_kind(header, "an embedding", field="embedding")
        files.check_stored(header, header.tensors)
        name, found = file.name, files.tensors(file.path, header.tensors)
    digest = file.sha256 or hashes.sha256_from(file.path)
    return embedding_of(name, found, digest[: hashes.SHORT])


def _numbers(vectors: object) -> Tensor:
    """Lists of numbers as float32; raises `ModelFileError` for anything else."""
    try:
        return torch.tensor(vectors, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelFileError("the picture's data are no embedding: lists of numbers were expected") from error


def embedding_of(name: str, tensors: Mapping[str, Tensor], shorthash: str) -> Embedding:
    """The embedding made of SDXL's pair or of one tensor under any name; raises `ModelFileError`."""
    if not _is_embedding(tensors):
        named = ", ".join(key[:40] for key in list(tensors)[:4])
        raise ModelFileError(f"the embedding {name!r} holds {named}; one tensor, or a pair, was expected")
    keys = _PAIR if set(tensors) == set(_PAIR) else tuple(tensors)
    vectors = tuple(_checked(name, key, tensors[key].float()) for key in keys)
    if len({part.shape[0] for part in vectors}) > 1:
        raise ModelFileError(f"the embedding {name!r} has not as many vectors for each text encoder")
    return Embedding(name, vectors, shorthash)


def _is_embedding(tensors: Iterable[str]) -> bool:
    keys = list(tensors)
    return set(keys) == set(_PAIR) or (len(keys) == 1 and not keys[0].endswith((".weight", ".bias")))


def _checked(name: str, key: str, vectors: Tensor) -> Tensor:
    if vectors.ndim == 1:
        vectors = vectors[None]
    if vectors.ndim != 2 or not vectors.numel():
        shape = tuple(vectors.shape)
        raise ModelFileError(
            f"{key} of the embedding {name!r} has the shape {shape}; expected was (n, width)"
        )
    if vectors.shape[0] > MAX_VECTORS:
        raise ModelFileError(
            f"the embedding {name!r} has {vectors.shape[0]} vectors; {MAX_VECTORS} fit into a prompt's chunk"
        )
    return vectors


def _family(widths: tuple[int, ...]) -> str:
    size = " and ".join(map(str, widths))
    return f"{_FAMILIES.get(widths, 'of another family')} ({size} wide)"


@dataclass(frozen=True, eq=False)
class Slot:
    """Where an embedding stands in a batch of chunks."""

    row: int  # chunk of the batch
    start: int  # position among the chunk's 77 tokens, the start token included
    embedding: Embedding


@contextmanager
def inserted(token_embedding: nn.Module, slots: Sequence[Slot], encoder: int = 0) -> Iterator[None]:
    """While it lasts, a text encoder reads the vectors of `slots` instead of its own token vectors.

    `encoder`: which of the checkpoint's text encoders this is. The vectors take the places of the token
    embedding's output (rows, 77, width), before positions are added. Raises `ModelFileError` on widths.
    """

    def insert(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
        output = output.clone()
        for slot in slots:
            vectors = slot.embedding.vectors[encoder]
            if vectors.shape[1] != output.shape[2]:
                raise ModelFileError(
                    f"the embedding {slot.embedding.name!r} is {vectors.shape[1]} wide;"
                    f" the text encoder {output.shape[2]}"
                )
            output[slot.row, slot.start : slot.start + len(vectors)] = vectors.to(output)
        return output

    if not slots:
        yield
        return
    handle = token_embedding.register_forward_hook(insert)
    try:
        with torch.no_grad():
            yield
    finally:
        handle.remove()
