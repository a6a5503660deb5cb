"""The model and the companions that ship, as the engine reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from cloudbrush.control.assets import FOLDERS
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.model_file import read_info
from cloudbrush.engine.events import ModelFile
from cloudbrush.engine.models.checkpoint import Checkpoint, Placement
from cloudbrush.engine.models.single_file import load_single_file
from cloudbrush.engine.networks.embedding import read_embedding
from cloudbrush.engine.networks.hypernetwork import read_hypernetwork
from cloudbrush.engine.networks.lora import read_network
from cloudbrush.engine.networks.names import Component
from cloudbrush.engine.networks.patches import Patches
from cloudbrush.engine.networks.vae import load_vae
from training.pocket import autoencoder, export, network

POCKET = export.BUILTIN / "Stable-diffusion/pocket.safetensors"
LORA, VAE = "Lora/neon", "VAE/slim"
HYPERNETWORK, EMBEDDING = "hypernetworks/pastel", "embeddings/moonlit"
COMPANIONS = (LORA, VAE, HYPERNETWORK, EMBEDDING)


def shipped(name: str) -> ModelFile:
    path = export.BUILTIN / f"{name}.safetensors"
    return ModelFile(path.stem, path, "0" * 64)


@pytest.fixture(scope="module")
def pocket() -> Checkpoint:
    return load_single_file(POCKET, name="pocket", sha256="0" * 64, placement=Placement(torch.device("cpu")))


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_pocket_fits_its_limit_and_says_what_it_is() -> None:
    assert POCKET.stat().st_size <= export.LIMIT
    facts = metadata(POCKET)
    assert facts["cloudbrush.family"] == "sd1"
    assert facts["cloudbrush.prediction"] == "v"
    assert facts["modelspec.license"] == "Apache-2.0"
    assert "steps" in facts["cloudbrush.recipe"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Stable-diffusion/pocket", AssetKind.CHECKPOINT),
        (LORA, AssetKind.LORA),
        (VAE, AssetKind.VAE),
        (HYPERNETWORK, AssetKind.HYPERNETWORK),
        (EMBEDDING, AssetKind.EMBEDDING),
    ],
)
def test_the_catalogue_knows_their_kinds(name: str, kind: AssetKind) -> None:
    with shipped(name).path.open("rb") as file:
        assert read_info(file).kind is kind
    assert FOLDERS[name.partition("/")[0]] is kind


@pytest.mark.parametrize("name", COMPANIONS)
def test_companions_are_small_and_say_their_licence(name: str) -> None:
    path = shipped(name).path
    assert path.stat().st_size < 1_000_000
    assert metadata(path)["modelspec.license"] == "Apache-2.0"


def test_the_lora_finds_all_its_layers(pocket: Checkpoint) -> None:
    lora = read_network(shipped(LORA))
    bound = Patches(pocket.unet, Component.UNET).bound(lora)
    assert not bound.missing
    assert not lora.unknown_keys
    assert bound.layers


def test_the_hypernetwork_has_nets_for_pocket_s_widths() -> None:
    nets = read_hypernetwork(shipped(HYPERNETWORK)).nets
    assert network.TEXT_WIDTH in nets


def test_the_embedding_fits_pocket_s_text_encoder() -> None:
    read_embedding(shipped(EMBEDDING)).check_widths((network.TEXT_WIDTH,))


def test_the_slim_autoencoder_shares_pocket_s_latents(pocket: Checkpoint) -> None:
    slim = load_vae(shipped(VAE), torch.device("cpu"))
    images = autoencoder.validation(4)
    with torch.no_grad():
        latents = pocket.vae.encode(images).latent_dist.mode()
        own = slim.encode(images).latent_dist.mode()
        painted = slim.decode(latents).sample.clamp(-1, 1)
    unit = export.LATENT_SCALE
    assert float((own - latents).square().mean()) * unit**2 < 0.1
    assert float((painted - images).square().mean()) < 0.02
