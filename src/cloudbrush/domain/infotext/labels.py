"""The WebUI's words for the fields of a generation."""

from __future__ import annotations

PROMPT = "Prompt"
NEGATIVE_PROMPT = "Negative prompt"
# Ours: the texts as JSON, written only where the lines lose white space or hide where a prompt ends.
EXACT_PROMPT = "Exact prompt"
EXACT_NEGATIVE_PROMPT = "Exact negative prompt"

SAME_CHECKPOINT = "Use same checkpoint"
SAME_SAMPLER = "Use same sampler"
SAME_SCHEDULE = "Use same scheduler"

PLAIN = {
    "checkpoint": "Model",
    "steps": "Steps",
    "width": "Size-1",
    "height": "Size-2",
    "cfg_scale": "CFG scale",
    "seed": "Seed",
    "clip_skip": "Clip skip",
}
VARIATION = {
    "seed": "Variation seed",
    "strength": "Variation seed strength",
    "from_width": "Seed resize from-1",
    "from_height": "Seed resize from-2",
}
HIRES = {
    "denoising_strength": "Denoising strength",
    "upscaler": "Hires upscaler",
    "scale": "Hires upscale",
    "resize_width": "Hires resize-1",
    "resize_height": "Hires resize-2",
    "steps": "Hires steps",
    "prompt": "Hires prompt",
    "negative_prompt": "Hires negative prompt",
}
IMG2IMG = {
    "denoising_strength": "Denoising strength",
    "noise_multiplier": "Noise multiplier",
    "resize_mode": "Resize mode",  # ours, as is the next: the WebUI does not tell
    "fix_steps": "Fix steps",
}
INPAINTING = {"mask_weight": "Conditional mask weight", "blur": "Mask blur"}
NOT_MASKED = "Inpaint not masked"  # a mask mode
ONLY_MASKED = "Only masked"  # an inpaint area
# Fields of `Options`, in the order in which the WebUI writes them; around the refiner's own.
OPTIONS = {
    "emphasis": "Emphasis",
    "old_prompt_editing": "Old prompt editing timelines",
    "noise_schedule": "Noise Schedule",
    "downcast_alphas": "Downcast alphas_cumprod",
    "discard_penultimate": "Discard penultimate sigma",
    "sigma_min": "Schedule min sigma",
    "sigma_max": "Schedule max sigma",
    "rho": "Schedule rho",
    "beta_alpha": "Beta schedule alpha",
    "beta_beta": "Beta schedule beta",
    "sgm_noise_multiplier": "SGM noise multiplier",
    "eta": "Eta",
    "eta_ddim": "Eta DDIM",
    "sigma_churn": "Sigma churn",
    "sigma_tmin": "Sigma tmin",
    "sigma_tmax": "Sigma tmax",
    "sigma_noise": "Sigma noise",
    "extra_noise": "Extra noise",
    "negative_minimum_sigma": "NGMS",
    "negative_minimum_all_steps": "NGMS all steps",
    "skip_early_guidance": "Skip Early CFG",
    "pad_prompts": "Pad conds",
    "pad_prompts_v0": "Pad conds v0",
    "quantize": "Quantized timesteps",  # ours: the WebUI does not tell
}
AFTER_REFINER = {"refiner_by_steps": "Refiner switch by sampling steps", "hires_refiner": "Hires refiner"}
SEED_DELTA = {"eta_noise_seed_delta": "ENSD"}
