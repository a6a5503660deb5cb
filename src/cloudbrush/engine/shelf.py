"""Extra networks and VAE files in memory, shared by all runs; and what a prompt's tags ask of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from cloudbrush.domain.errors import ModelFileError, UnknownModel
from cloudbrush.domain.network_tags import HYPERNETWORK_TAG, LORA_TAGS, HypernetworkTag, LoraTag, unknown_kind
from cloudbrush.domain.prompt import cut_network_tags, strip_comments
from cloudbrush.engine.events import ModelFile, Models
from cloudbrush.engine.extras import Extras
from cloudbrush.engine.models.cache import LoadedModels
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.networks.embedding import read_embedding
from cloudbrush.engine.networks.hypernetwork import Hypernetwork, read_hypernetwork
from cloudbrush.engine.networks.lora import read_network
from cloudbrush.engine.networks.patches import Wanted
from cloudbrush.engine.networks.vae import load_vae
from cloudbrush.engine.preview import Preview
from cloudbrush.engine.upscale import Upscaler, load_upscaler

# Kept in memory while nobody uses them.
KEPT_NETWORKS = 8  # LoRAs take some hundred MB
KEPT_EMBEDDINGS = 64
KEPT_VAES = 2
KEPT_UPSCALERS = 2


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A VAE file as it serves a checkpoint."""

    vae: AutoencoderKL
    preview: Preview


class Shelf:
    """Reads each file once; what runs hold stays."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        # By name too: a file may be there twice, and words, infotexts and errors tell its name.
        self._loras = LoadedModels(read_network, KEPT_NETWORKS, _name_and_content)
        self._hypernetworks = LoadedModels(self._hypernetwork, KEPT_NETWORKS, _name_and_content)
        self._embeddings = LoadedModels(read_embedding, KEPT_EMBEDDINGS, _name_and_content)
        self._vaes = LoadedModels(self._autoencoder, KEPT_VAES, _contents)
        self._upscalers = LoadedModels(self._upscaler, KEPT_UPSCALERS)

    @contextmanager
    def extras(self, prompt: str, models: Models, field: str = "prompt") -> Iterator[Extras]:
        """What the tags of the positive prompt ask for, and the embeddings; in memory while it lasts.

        Raises `InvalidInput` that names `field` for a tag that cannot be read or whose file is not among
        `models`, and `ModelFileError`.
        """
        loras: list[Wanted] = []
        hypernetworks: list[tuple[Hypernetwork, float]] = []
        with ExitStack() as held:
            embeddings = [held.enter_context(self._embeddings.using(file)) for file in models.embeddings]
            for tag in cut_network_tags(strip_comments(prompt))[1]:
                if tag.kind in LORA_TAGS:
                    lora = LoraTag.read(tag, field)
                    file = _tagged(lora.name, models.loras, "LoRA", field)
                    network = held.enter_context(self._loras.using(file))
                    loras.append(Wanted(network, lora.te, lora.unet, lora.dyn))
                elif tag.kind == HYPERNETWORK_TAG:
                    asked = HypernetworkTag.read(tag, field)
                    file = _tagged(asked.name, models.hypernetworks, "hypernetwork", field)
                    hypernetwork = held.enter_context(self._hypernetworks.using(file))
                    hypernetworks.append((hypernetwork, asked.multiplier))
                else:
                    raise unknown_kind(tag, field)
            bundled = [embedding for lora in loras for embedding in lora.network.embeddings]
            yield Extras(tuple(loras), tuple(hypernetworks), (*embeddings, *bundled))

    @contextmanager
    def autoencoder(self, file: ModelFile, checkpoint: Checkpoint) -> Iterator[Autoencoder]:
        """The VAE in a file, for a checkpoint, in memory while it lasts.

        Raises `ModelFileError` when it is none, or none for this checkpoint's latents.
        """
        with self._vaes.using((file, checkpoint)) as autoencoder:
            yield autoencoder

    @contextmanager
    def upscaler(self, file: ModelFile) -> Iterator[Upscaler]:
        """The upscaler in a file, in memory while it lasts; raises `ModelFileError` when it is none."""
        with self._upscalers.using(file) as upscaler:
            yield upscaler

    def _upscaler(self, file: ModelFile) -> Upscaler:
        return load_upscaler(file, self._placement)

    def _hypernetwork(self, file: ModelFile) -> Hypernetwork:
        return read_hypernetwork(file).to(self._placement.device)

    def _autoencoder(self, pair: tuple[ModelFile, Checkpoint]) -> Autoencoder:
        file, checkpoint = pair
        other = replace(checkpoint, vae=load_vae(file, self._placement.device))
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


def _tagged(name: str, files: Sequence[ModelFile], what: str, field: str) -> ModelFile:
    hint = "Choose one of the list, or take the <...> tag out of the prompt."
    return named(name, files, f"{what} that the prompt asks for", field, hint)


def named(
    name: str, files: Sequence[ModelFile], what: str, field: str, hint: str = "Choose one of the list."
) -> ModelFile:
    """The file of that name; raises `UnknownModel` that names `field`."""
    file = next((file for file in files if file.name == name), None)
    if file is None:
        raise UnknownModel(f"{name[:100]!r}, the {what}, is not there", field=field, hint=hint)
    return file
