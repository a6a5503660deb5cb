"""Extra networks and VAE files in memory, shared by all runs; and what a prompt's tags ask of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from cloudbrush.domain.errors import InvalidInput, ModelFileError, UnknownModel
from cloudbrush.domain.prompt import NetworkTag, cut_network_tags, strip_comments
from cloudbrush.engine.events import ModelFile, Models
from cloudbrush.engine.extras import Extras
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.networks.embedding import read_embedding
from cloudbrush.engine.networks.hypernetwork import Hypernetwork, read_hypernetwork
from cloudbrush.engine.networks.lora import read_network
from cloudbrush.engine.networks.patches import Wanted
from cloudbrush.engine.networks.tags import HYPERNETWORK_TAG, LORA_TAGS, HypernetworkTag, LoraTag
from cloudbrush.engine.networks.vae import load_vae
from cloudbrush.engine.preview import Preview

# Kept in memory while nobody uses them.
KEPT_NETWORKS = 8  # LoRAs take some hundred MB
KEPT_EMBEDDINGS = 64
KEPT_VAES = 2


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A VAE file as it serves a checkpoint."""

    vae: AutoencoderKL
    preview: Preview


class Shelf:
    """Reads each file once; what runs hold stays."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # By name too: a file may be there twice, and words, infotexts and errors tell its name.
        self._loras = LoadedModels(read_network, KEPT_NETWORKS, _name_and_content)
        self._hypernetworks = LoadedModels(self._hypernetwork, KEPT_NETWORKS, _name_and_content)
        self._embeddings = LoadedModels(read_embedding, KEPT_EMBEDDINGS, _name_and_content)
        self._vaes = LoadedModels(self._autoencoder, KEPT_VAES, _contents)

    @contextmanager
    def extras(self, prompt: str, models: Models) -> Iterator[Extras]:
        """What the tags of the positive prompt ask for, and the embeddings; in memory while it lasts.

        Raises `InvalidInput` for a tag that cannot be read or whose file is not among `models`, and
        `ModelFileError`.
        """
        loras: list[Wanted] = []
        hypernetworks: list[tuple[Hypernetwork, float]] = []
        with ExitStack() as held:
            embeddings = [held.enter_context(self._embeddings.using(file)) for file in models.embeddings]
            for tag in cut_network_tags(strip_comments(prompt))[1]:
                if tag.kind in LORA_TAGS:
                    lora = LoraTag.read(tag)
                    network = held.enter_context(self._loras.using(_named(lora.name, models.loras, "LoRA")))
                    loras.append(Wanted(network, lora.te, lora.unet, lora.dyn))
                elif tag.kind == HYPERNETWORK_TAG:
                    asked = HypernetworkTag.read(tag)
                    file = _named(asked.name, models.hypernetworks, "hypernetwork")
                    hypernetwork = held.enter_context(self._hypernetworks.using(file))
                    hypernetworks.append((hypernetwork, asked.multiplier))
                else:
                    raise _unknown_kind(tag)
            bundled = [embedding for lora in loras for embedding in lora.network.embeddings]
            yield Extras(tuple(loras), tuple(hypernetworks), (*embeddings, *bundled))

    @contextmanager
    def autoencoder(self, file: ModelFile, checkpoint: Checkpoint) -> Iterator[Autoencoder]:
        """The VAE in a file, for a checkpoint, in memory while it lasts.

        Raises `ModelFileError` when it is none, or none for this checkpoint's latents.
        """
        with self._vaes.using((file, checkpoint)) as autoencoder:
            yield autoencoder

    def _hypernetwork(self, file: ModelFile) -> Hypernetwork:
        return read_hypernetwork(file).to(self._device)

    def _autoencoder(self, pair: tuple[ModelFile, Checkpoint]) -> Autoencoder:
        file, checkpoint = pair
        other = replace(checkpoint, vae=load_vae(file, self._device))
        if (other.latent_channels, other.downscale) != (checkpoint.latent_channels, checkpoint.downscale):
            raise ModelFileError(
                f"the VAE {file.name!r} has {other.latent_channels} channels at 1/{other.downscale} of the"
                f" size; the checkpoint's {checkpoint.latent_channels} at 1/{checkpoint.downscale}",
                field="vae",
                hint="Choose a VAE of the checkpoint's family.",
            )
        return Autoencoder(other.vae, Preview.fit(other))


def _name_and_content(file: ModelFile) -> Hashable:
    return file.name, file.sha256


def _contents(pair: tuple[ModelFile, Checkpoint]) -> Hashable:
    file, checkpoint = pair
    return file.sha256, checkpoint.sha256  # a preview is fitted to the latents of a checkpoint


def _named(name: str, files: Sequence[ModelFile], what: str) -> ModelFile:
    file = next((file for file in files if file.name == name), None)
    if file is None:
        raise UnknownModel(
            f"the prompt asks for the {what} {name[:100]!r}, which is not there",
            field="prompt",
            hint="Choose one of the list, or take the <...> tag out of the prompt.",
        )
    return file


def _unknown_kind(tag: NetworkTag) -> InvalidInput:
    return InvalidInput(
        f"the prompt's tag <{tag.kind[:40]}:{':'.join(tag.arguments)[:60]}> is of no kind that is known",
        field="prompt",
        hint="Known are <lora:name:1>, <lyco:name:1> and <hypernet:name:1>.",
    )
