"""What each control is for, in plain words: its tooltip, by element id."""

from cloudbrush.studio.networks import KINDS
from cloudbrush.studio.settings_table import SETTINGS
from cloudbrush.studio.values import MODELS

# Of both tabs that paint; the ids begin with the tab's name.
_SHARED = {
    "prompt": "What the image should show. (word:1.2) weighs a word: Ctrl+Up, Ctrl+Down.",
    "neg_prompt": "What the image should not show.",
    "token_counter": "Length in tokens; the model reads 75 at a time.",
    "negative_token_counter": "Length in tokens; the model reads 75 at a time.",
    "generate": "Submit a job with these values. Press again for more: jobs queue up. (Ctrl+Enter)",
    "paste": "Read the prompt and parameters written in the prompt box into the form; if it is empty, those "
    "of your latest job.",
    "clear_prompt": "Clear both prompts",
    "sampling": "The method that turns noise into an image.",
    "scheduler": "How noise is spread over the steps. Automatic suits the sampling method.",
    "steps": "How often the image is refined. More is slower; beyond 20 to 30 little changes.",
    "enable-checkbox": "Let another checkpoint finish what the first began.",
    "checkpoint": "The checkpoint that finishes the image.",
    "switch_at": "The share of the way after which the refiner takes over.",
    "width": "Width of the image in pixels. Models paint best near their own size.",
    "height": "Height of the image in pixels. Models paint best near their own size.",
    "res_switch_btn": "Swap width and height",
    "batch_count": "How many batches, one after the other.",
    "batch_size": "How many images at a time. Faster than more batches, but needs more memory.",
    "cfg_scale": "How closely to follow the prompt. Low is free, high is literal; start at 7.",
    "seed": "The same seed and values paint the same image; -1 draws a new seed.",
    "random_seed": "A new random seed for each job (-1)",
    "reuse_seed": "Take the seed of the image shown in Output",
    "subseed_show": "Vary the image a little: more about the seed.",
    "subseed": "The seed to vary towards; -1 draws a new one.",
    "random_subseed": "A new random variation seed for each job (-1)",
    "reuse_subseed": "Take the variation seed of the image shown in Output",
    "subseed_strength": "How far to go towards the variation seed: 0 not at all, 1 all the way.",
    "seed_resize_from_w": "Keep the composition of an image of another width; 0 means off.",
    "seed_resize_from_h": "Keep the composition of an image of another height; 0 means off.",
    "override_settings": "Settings that count for this form only, before those of the Settings tab. "
    "Taken from a pasted image; remove one to go back.",
}
_NETWORKS = {
    "extra_search": "Show only files whose name or hash has this in it.",
    "extra_refresh": "Look through the model folders again",
    "cards": "Click a file to put it into the prompt, or to take it out again.",
}
TIPS = {
    **{f"{task}_{name}": tip for task in MODELS for name, tip in _SHARED.items()},
    **{
        f"{task}_{kind.key}_{name}": tip
        for task in MODELS
        for kind in KINDS
        for name, tip in _NETWORKS.items()
    },
    **{f"setting_{setting.key}": setting.tip for setting in SETTINGS},
    "setting_sd_model_checkpoint": "The model that paints; each was trained on other pictures.",
    "refresh_sd_model_checkpoint": "Look through the model folders again",
    "setting_sd_vae": "What turns the model's result into pixels. Automatic: the file named like the "
    "checkpoint, or else its own.",
    "setting_CLIP_stop_at_last_layers": "At which layer from the end the text encoder stops; 1 uses all. "
    "Many anime models want 2.",
    "txt2img_hr-checkbox": "Paint once more at a larger size, beginning with the first image: more detail.",
    "txtimg_hr_finalres": "The size before and after.",
    "txt2img_hr_upscaler": "How the first image is enlarged before the second pass.",
    "txt2img_hires_steps": "Steps of the second pass; 0 takes as many as the first.",
    "txt2img_denoising_strength": "How much the second pass may change: 0 nothing, 1 everything.",
    "txt2img_hr_scale": "How many times as large the image becomes, unless a size is given beside.",
    "txt2img_hr_resize_x": "The final width in pixels; 0 leaves it to the height, or to Upscale by.",
    "txt2img_hr_resize_y": "The final height in pixels; 0 leaves it to the width, or to Upscale by.",
    "hr_checkpoint": "The model of the second pass.",
    "hr_sampler": "The sampling method of the second pass.",
    "hr_scheduler": "The schedule of the second pass.",
    "hires_prompt": "What the second pass should show; empty: the same.",
    "hires_neg_prompt": "What the second pass should not show; empty: the same.",
    "hires_token_counter": "Length in tokens; the model reads 75 at a time.",
    "hires_negative_token_counter": "Length in tokens; the model reads 75 at a time.",
    "img2img_image": "The picture to paint over. Drop a file, paste one, or click to choose.",
    "img2maskimg": "The picture to paint over. Paint white over what is to change.",
    "img_inpaint_base": "The picture to paint over. Drop a file, paste one, or click to choose.",
    "img_inpaint_mask": "A black and white picture of the same size: what is white is painted.",
    "img2img_detect_image_size_btn": "Take width and height from the picture",
    "resize_mode": "What to do where picture and size differ: stretch, cut off, fill up, or stretch latents.",
    "img2img_denoising_strength": "How much of the picture may change: 0 nothing, 1 everything.",
    "img2img_mask_blur": "How softly the mask ends, in pixels.",
    "img2img_mask_mode": "Paint what the mask covers, or everything else.",
    "img2img_inpainting_fill": "What the masked part begins with: colours from around it, the picture "
    "itself, noise, or nothing.",
    "img2img_inpaint_full_res": "Paint the whole picture, or only the masked part, in finer detail.",
    "img2img_inpaint_full_res_padding": "How many pixels around the masked part are seen while painting.",
    "pnginfo_image": "An image made by Cloudbrush or another Stable Diffusion program.",
    "pnginfo_infotext": "What made this image.",
    "pnginfo_send_to_txt2img": "Fill the txt2img form with these parameters",
    "pnginfo_send_to_img2img": "Paint over this image, with these parameters",
    "pnginfo_send_to_inpaint": "Repaint a part of this image, with these parameters",
    "settings_reset": "Bring the usual values of all settings back",
    "cloud_endpoint": "Where to paint. Only an InService endpoint takes jobs; none: this machine.",
    "cloud_endpoint_refresh": "Ask again which endpoints there are and how they are",
    "cloud_jobs": "Your jobs, newest first. Choose one to bring it back into Output.",
    "cloud_jobs_refresh": "Ask again which jobs there are",
    "cloud_show_all": "List every job instead of the latest 10.",
    "cloud_advanced": "List only jobs of a certain kind.",
    "cloud_filter_task": "List only jobs of this kind of task.",
    "cloud_filter_status": "List only jobs in these states; none chosen means any.",
    "cloud_filter_endpoint": "List only jobs that were sent to this endpoint.",
    "cloud_filter_checkpoint": "List only jobs painted with this checkpoint.",
    "cloud_filter_start": "List only jobs submitted on this day or later. Written 2026-11-23.",
    "cloud_filter_end": "List only jobs submitted on this day or earlier. Written 2026-11-23.",
    "inference_id": "The name of the job shown. It finds the job again, also on the command line.",
    "txt2img_cancel": "Call this job off",
    "txt2img_save": "Download the image shown, with its prompt and parameters inside the file",
    "txt2img_delete": "Forget this job and its images",
    "txt2img_send_to_txt2img": "Fill the txt2img form with this image's parameters",
    "txt2img_send_to_img2img": "Paint over this image, with its parameters",
    "txt2img_send_to_inpaint": "Repaint a part of this image, with its parameters",
    "html_info_txt2img": "What made this image. Saved inside the PNG as well.",
}
