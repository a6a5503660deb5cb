"""The look: system fonts, quiet surfaces, and one accent colour kept for the one main action."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes import Base, Color

HERE = Path(__file__).parent
STYLES = HERE / "studio.css"
SCRIPT = HERE / "studio.js"

# White on 600 and 700 keeps a contrast of at least 4.5.
ACCENT = Color(
    name="persimmon",
    c50="#fdf3ee",
    c100="#fae2d6",
    c200="#f4c3ab",
    c300="#ec9c78",
    c400="#e27347",
    c500="#d65a2b",
    c600="#c44a1c",
    c700="#a33b15",
    c800="#843214",
    c900="#6b2b14",
    c950="#3a1408",
)
INK = Color(
    name="ink",
    c50="#f7f7f8",
    c100="#eeeff1",
    c200="#dfe1e5",
    c300="#c6c9d0",
    c400="#9499a5",
    c500="#646a78",
    c600="#4c5260",
    c700="#383d49",
    c800="#262a33",
    c900="#1b1e25",
    c950="#121419",
)


def theme() -> Base:
    """Gradio's variables in our colours; what they cannot say is in studio.css."""
    base = Base(
        primary_hue=ACCENT,
        secondary_hue=INK,
        neutral_hue=INK,
        text_size="sm",
        spacing_size="sm",
        radius_size="md",
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "Cantarell", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
    )
    return base.set(**_surfaces(), **_controls())


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_100",
        "body_background_fill_dark": "*neutral_950",
        "body_text_color": "*neutral_900",
        "body_text_color_dark": "*neutral_100",
        "body_text_color_subdued": "*neutral_500",
        "body_text_color_subdued_dark": "*neutral_400",
        "block_background_fill": "transparent",
        "block_background_fill_dark": "transparent",
        "block_border_width": "0px",
        "block_border_width_dark": "0px",
        "block_padding": "0px",
        "block_shadow": "none",
        "block_shadow_dark": "none",
        "block_title_text_color": "*neutral_600",
        "block_title_text_color_dark": "*neutral_400",
        "block_title_text_size": "12px",
        "block_title_text_weight": "500",
        "block_label_background_fill": "transparent",
        "block_label_background_fill_dark": "transparent",
        "border_color_primary": "*neutral_200",
        "border_color_primary_dark": "*neutral_800",
        "layout_gap": "10px",
        "form_gap_width": "0px",
    }


def _controls() -> dict[str, str]:
    return {
        "color_accent": "*neutral_700",
        "input_background_fill": "white",
        "input_background_fill_dark": "*neutral_950",
        "input_background_fill_focus": "white",
        "input_background_fill_focus_dark": "*neutral_950",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "*neutral_700",
        "input_border_color_focus": "*neutral_500",
        "input_border_color_focus_dark": "*neutral_400",
        "input_placeholder_color": "*neutral_500",
        "input_placeholder_color_dark": "*neutral_400",
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "input_shadow_focus_dark": "none",
        "input_border_width": "1px",
        "input_text_size": "*text_md",
        "slider_color": "*neutral_500",
        "slider_color_dark": "*neutral_400",
        "checkbox_background_color_selected": "*neutral_700",
        "checkbox_background_color_selected_dark": "*neutral_500",
        "checkbox_border_color_selected": "*neutral_700",
        "checkbox_border_color_selected_dark": "*neutral_500",
        "checkbox_border_color_focus": "*neutral_500",
        "checkbox_label_background_fill": "transparent",
        "checkbox_label_background_fill_dark": "transparent",
        "checkbox_label_background_fill_hover": "transparent",
        "checkbox_label_background_fill_hover_dark": "transparent",
        "checkbox_label_background_fill_selected": "transparent",
        "checkbox_label_background_fill_selected_dark": "transparent",
        "checkbox_label_border_width": "0px",
        "checkbox_label_padding": "4px 0px",
        "checkbox_label_shadow": "none",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_dark": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "button_primary_background_fill_hover_dark": "*primary_700",
        "button_primary_text_color": "white",
        "button_primary_text_color_dark": "white",
        "button_primary_border_color": "transparent",
        "button_primary_border_color_dark": "transparent",
        "button_secondary_background_fill": "white",
        "button_secondary_background_fill_dark": "*neutral_800",
        "button_secondary_background_fill_hover": "*neutral_100",
        "button_secondary_background_fill_hover_dark": "*neutral_700",
        "button_secondary_text_color": "*neutral_800",
        "button_secondary_text_color_dark": "*neutral_100",
        "button_secondary_border_color": "*neutral_300",
        "button_secondary_border_color_dark": "*neutral_700",
        "button_large_text_weight": "600",
        "button_small_text_weight": "500",
        "button_transition": "background-color 0.12s ease",
        "button_primary_shadow": "none",
        "button_secondary_shadow": "none",
    }


# Every listener of ours: no spinner over what it changes, and no entry in Gradio's API pages.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}

# Values as the browser sends them: a page that Gradio no longer remembers may still submit what it shows.
AS_SENT = {"preprocess": False}


def tool(symbol: str, elem_id: str) -> gr.Button:
    """A small square button beside a field."""
    return gr.Button(symbol, elem_id=elem_id, elem_classes="tool", min_width=0, scale=0, size="sm")
