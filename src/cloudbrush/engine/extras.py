"""What a run paints with beside its checkpoint: networks, and words the text encoder learns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cloudbrush.domain import tokens
from cloudbrush.domain.words import Word, Words
from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks.embedding import Embedding
from cloudbrush.engine.networks.hypernetwork import Hypernetwork
from cloudbrush.engine.networks.patches import Key, Wanted, key_of


@dataclass(frozen=True, eq=False)
class Extras:
    """Networks in the order of their tags, and all embeddings whose name may be a word of the prompts."""

    loras: tuple[Wanted, ...] = ()
    hypernetworks: tuple[tuple[Hypernetwork, float], ...] = ()
    embeddings: tuple[Embedding, ...] = ()

    @cached_property
    def merged(self) -> Key:
        """What decides about the denoiser's weights."""
        return key_of(self.loras, Component.UNET)

    @cached_property
    def denoiser_key(self) -> Hashable:
        """What images must have in common to share a call of the denoiser."""
        hypernetworks = ((one.sha256, multiplier) for one, multiplier in self.hypernetworks if multiplier)
        return self.merged, tuple(hypernetworks)

    @cached_property
    def text_key(self) -> Hashable:
        """What decides, beside a text, about what the text encoder makes of it."""
        embeddings = tuple((embedding.name, embedding.shorthash) for embedding in self.embeddings)
        return key_of(self.loras, Component.TEXT), embeddings

    @cached_property
    def words(self) -> Words:
        """The embeddings as prompts see them."""
        return Words(
            Word(embedding.name, tuple(tokens.encode(embedding.name)), embedding.count)
            for embedding in self.embeddings
        )

    @cached_property
    def by_name(self) -> Mapping[str, Embedding]:
        """The embeddings by their names; of two with one name the first."""
        return {embedding.name: embedding for embedding in reversed(self.embeddings)}


PLAIN = Extras()
