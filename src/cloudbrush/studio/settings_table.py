"""What the WebUI keeps in its Settings and what changes pixels: our paths, its keys and words."""

from __future__ import annotations

from dataclasses import dataclass

from cloudbrush.domain.infotext import labels

_TOLD = {
    **{
        f"options.{name}": label
        for name, label in {**labels.OPTIONS, **labels.AFTER_REFINER, **labels.SEED_DELTA}.items()
    },
    "noise_source": "RNG",
    "noise_multiplier": labels.IMG2IMG["noise_multiplier"],
    "inpainting.mask_weight": labels.INPAINTING["mask_weight"],
    "fix_steps": labels.IMG2IMG["fix_steps"],
}


@dataclass(frozen=True)
class Setting:
    """One setting: the field it fills, and how people and infotexts call it."""

    path: str  # of the field
    key: str  # the WebUI's
    label: str
    tip: str
    section: str = "Sampler parameters"

    @property
    def told(self) -> str:
        """Its label in infotexts, and in Override settings."""
        return _TOLD[self.path]


IMAGE_TO_IMAGE, TEXT, GUIDANCE, OLD = "img2img and hires fix", "Prompts", "Negative guidance", "Compatibility"

SETTINGS = (
    Setting(
        "noise_source",
        "randn_source",
        "Random number generator source",
        "Where noise comes from. NV paints the same image on every machine; CPU and GPU are torch's own.",
    ),
    Setting(
        "options.eta_noise_seed_delta",
        "eta_noise_seed_delta",
        "Eta noise seed delta",
        "Added to the seed for the noise that samplers add on the way. NovelAI used 31337.",
    ),
    Setting(
        "options.eta",
        "eta_ancestral",
        "Eta for k-diffusion samplers",
        "How much noise ancestral and stochastic samplers add in each step.",
    ),
    Setting(
        "options.eta_ddim",
        "eta_ddim",
        "Eta for DDIM",
        "How much noise DDIM adds in each step; 0 makes it deterministic.",
    ),
    Setting(
        "options.sigma_churn",
        "s_churn",
        "sigma churn",
        "How much noise Euler, Heun and DPM2 stir in before a step.",
    ),
    Setting(
        "options.sigma_tmin",
        "s_tmin",
        "sigma tmin",
        "Below this noise level nothing is stirred in.",
    ),
    Setting(
        "options.sigma_tmax",
        "s_tmax",
        "sigma tmax",
        "Above this noise level nothing is stirred in; 0 means no limit.",
    ),
    Setting(
        "options.sigma_noise",
        "s_noise",
        "sigma noise",
        "Strength of the noise that samplers add.",
    ),
    Setting(
        "options.sigma_min",
        "sigma_min",
        "sigma min",
        "The schedule's lowest noise level; 0 takes the model's.",
    ),
    Setting(
        "options.sigma_max",
        "sigma_max",
        "sigma max",
        "The schedule's highest noise level; 0 takes the model's.",
    ),
    Setting(
        "options.rho",
        "rho",
        "rho",
        "How steep Karras and Polyexponential schedules are; 0 takes their own.",
    ),
    Setting(
        "options.beta_alpha",
        "beta_dist_alpha",
        "Beta scheduler: alpha",
        "Shape of the Beta schedule at its beginning.",
    ),
    Setting(
        "options.beta_beta",
        "beta_dist_beta",
        "Beta scheduler: beta",
        "Shape of the Beta schedule at its end.",
    ),
    Setting(
        "options.discard_penultimate",
        "always_discard_next_to_last_sigma",
        "Always discard next-to-last sigma",
        "Plan a step more and leave the last but one out, as DPM2 always does.",
    ),
    Setting(
        "options.sgm_noise_multiplier",
        "sgm_noise_multiplier",
        "SGM noise multiplier",
        "Scale the first noise as Stability's own sampler does.",
    ),
    Setting(
        "options.quantize",
        "enable_quantization",
        "Enable quantization in K samplers",
        "Ask the model for whole timesteps only, as Forge does.",
    ),
    Setting(
        "options.noise_schedule",
        "sd_noise_schedule",
        "Noise schedule for sampling",
        "Zero Terminal SNR is for models that were trained with it.",
    ),
    Setting(
        "options.emphasis",
        "emphasis",
        "Emphasis mode",
        "What (word:1.2) does: Original, without normalising, nothing, or not even read.",
        TEXT,
    ),
    Setting(
        "options.pad_prompts",
        "pad_cond_uncond",
        "Pad prompt/negative prompt",
        "Fill the shorter prompt up with empty text, so that both are computed together.",
        TEXT,
    ),
    Setting(
        "options.negative_minimum_sigma",
        "s_min_uncond",
        "Negative Guidance minimum sigma",
        "Below this noise level the negative prompt is left out in every other step: faster.",
        GUIDANCE,
    ),
    Setting(
        "options.negative_minimum_all_steps",
        "s_min_uncond_all",
        "Negative Guidance minimum sigma all steps",
        "Leave the negative prompt out in every step below that noise level.",
        GUIDANCE,
    ),
    Setting(
        "options.skip_early_guidance",
        "skip_early_cond",
        "Ignore negative prompt during early sampling",
        "Share of the steps at the beginning that go without the negative prompt.",
        GUIDANCE,
    ),
    Setting(
        "noise_multiplier",
        "initial_noise_multiplier",
        "Noise multiplier for img2img",
        "Strength of the noise laid over the picture.",
        IMAGE_TO_IMAGE,
    ),
    Setting(
        "options.extra_noise",
        "img2img_extra_noise",
        "Extra noise multiplier for img2img and hires fix",
        "Further noise laid over what img2img and hires fix begin with: more small detail.",
        IMAGE_TO_IMAGE,
    ),
    Setting(
        "inpainting.mask_weight",
        "inpainting_mask_weight",
        "Inpainting conditioning mask strength",
        "How firmly an inpainting checkpoint keeps to the mask.",
        IMAGE_TO_IMAGE,
    ),
    Setting(
        "fix_steps",
        "img2img_fix_steps",
        "With img2img, do exactly the amount of steps the slider specifies",
        "Without it, a low denoising strength does fewer steps.",
        IMAGE_TO_IMAGE,
    ),
    Setting(
        "options.hires_refiner",
        "hires_fix_refiner_pass",
        "Hires fix: which pass to enable refiner for",
        "In which pass of hires fix the refiner takes over.",
        IMAGE_TO_IMAGE,
    ),
    Setting(
        "options.old_prompt_editing",
        "use_old_scheduling",
        "Old prompt editing timelines",
        "For images made before WebUI 1.6: switch points below 1 are shares, others steps.",
        OLD,
    ),
    Setting(
        "options.pad_prompts_v0",
        "pad_cond_uncond_v0",
        "Pad prompt/negative prompt (v0)",
        "For images of DDIM and PLMS made before WebUI 1.6: the negative prompt as long as the prompt.",
        OLD,
    ),
    Setting(
        "options.downcast_alphas",
        "use_downcasted_alpha_bar",
        "Downcast model alphas_cumprod to fp16 before sampling",
        "For images made before WebUI 1.7: the noise schedule in half precision.",
        OLD,
    ),
    Setting(
        "options.refiner_by_steps",
        "refiner_switch_by_sample_steps",
        "Switch to refiner by sampling steps instead of model timesteps",
        "For images made before WebUI 1.8: Switch at counts steps, not noise levels.",
        OLD,
    ),
)
BY_LABEL = {setting.told: setting for setting in SETTINGS}
