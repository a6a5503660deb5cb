"""Cloudbrush: a Stable Diffusion studio that paints in the cloud, or on the machine it runs on."""

__version__ = "0.1.0"
