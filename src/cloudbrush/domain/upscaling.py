"""Ways to enlarge an image that need no model file, by the WebUI's names (specification 1.1)."""

from __future__ import annotations

LATENT_UPSCALERS = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)
PIXEL_UPSCALERS = ("None", "Lanczos", "Nearest")
BUILTIN_UPSCALERS = (*LATENT_UPSCALERS, *PIXEL_UPSCALERS)
