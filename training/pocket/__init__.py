"""How Pocket, the tiny latent-diffusion model that ships with Cloudbrush, is made."""
