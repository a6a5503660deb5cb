"""Takes up the autoencoder of an exported file where its training state is lost."""

from __future__ import annotations

from pathlib import Path

from . import autoencoder, export


def codec(path: Path) -> autoencoder.Autoencoder:
    """The file's autoencoder; SD1's scale is folded back, so its norm does nothing at first."""
    model = autoencoder.Autoencoder()
    weights = export.read_vae(path).state_dict()
    weights["quant_conv.weight"] *= export.LATENT_SCALE
    weights["quant_conv.bias"] *= export.LATENT_SCALE
    weights["post_quant_conv.weight"] /= export.LATENT_SCALE
    model.vae.load_state_dict(weights)
    model.norm.running_var.fill_(1 - model.norm.eps)
    return model
