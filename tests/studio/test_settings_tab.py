"""The Settings tab: one control for each setting, with the field's own limits."""

from __future__ import annotations

import gradio as gr

from cloudbrush.domain.generation import Img2Img, Inpainting, Options
from cloudbrush.domain.infotext import labels
from cloudbrush.studio import settings_tab, values
from cloudbrush.studio.settings_table import BY_LABEL, SETTINGS


def test_every_option_is_a_setting() -> None:
    paths = {setting.path for setting in SETTINGS}
    assert {f"options.{name}" for name in Options.model_fields} <= paths
    assert len(paths) == len({setting.key for setting in SETTINGS}) == len(BY_LABEL) == len(SETTINGS)


def test_the_controls_stand_at_the_fields_defaults_and_keep_their_limits() -> None:
    with gr.Blocks():
        fields, _ = settings_tab.build_settings()
    assert list(fields) == list(values.SETTING_PATHS)
    assert [control.value for control in fields.values()] == settings_tab.usual()
    churn = fields["options.sigma_churn"]
    assert (churn.minimum, churn.maximum) == (0, 100)
    assert fields["options.eta_noise_seed_delta"].maximum == 2**53 - 1  # what a page can send exactly
    assert [name for name, _ in fields["options.emphasis"].choices] == [
        "Original",
        "No norm",
        "Ignore",
        "None",
    ]


def test_the_usual_settings_are_a_usual_generation() -> None:
    usual = dict(zip(values.SETTING_PATHS, settings_tab.usual(), strict=True))
    over = {"mode": "upload", "image": "0" * 64, "inpainting.mask": "1" * 64}
    assert values.generation("img2img", {**usual, **over}) == Img2Img(
        image="0" * 64, inpainting=Inpainting(mask="1" * 64)
    )


def test_settings_are_overridden_by_the_words_of_infotexts() -> None:
    assert BY_LABEL[labels.SEED_DELTA["eta_noise_seed_delta"]].path == "options.eta_noise_seed_delta"
    assert values.override("options.eta", 1.0) == "Eta: 1"
    assert values.override("options.quantize", True) == "Quantized timesteps: True"
