"""The PNG Info tab: drop an image, see what made it, send that on."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import gradio as gr

from cloudbrush.domain.image_file import Picture

NOTHING = (
    '<div class="empty"><p>No image yet</p><p>Drop one to read the prompt and parameters inside.</p></div>'
)


@dataclass(frozen=True)
class PngInfo:
    """The components of the tab."""

    image: gr.Image
    note: gr.HTML
    infotext: gr.Textbox
    to_txt2img: gr.Button
    to_img2img: gr.Button
    to_inpaint: gr.Button


def build_png_info() -> PngInfo:
    """The tab's content."""
    with gr.Row(elem_id="pnginfo_columns"):
        with gr.Column(elem_classes="card", min_width=0):
            image = gr.Image(
                label="Image",
                elem_id="pnginfo_image",
                type="filepath",
                image_mode=None,  # the file as it is, with what is inside
                sources=["upload", "clipboard"],
                height=420,
                buttons=["fullscreen"],
            )
        with gr.Column(elem_classes="card", elem_id="pnginfo_results", min_width=0):
            note = gr.HTML(NOTHING, elem_id="pnginfo_note")
            infotext = gr.Textbox(
                label="Prompt and parameters",
                elem_id="pnginfo_infotext",
                interactive=False,
                lines=8,
                max_lines=24,
                placeholder="What is written inside the image appears here",
                buttons=["copy"],
            )
            with gr.Row(elem_id="pnginfo_actions", elem_classes="actions"):
                to_txt2img, to_img2img, to_inpaint = (
                    gr.Button(
                        f"Send to {place}",
                        elem_id=f"pnginfo_send_to_{place}",
                        size="sm",
                        min_width=0,
                        scale=0,
                    )
                    for place in ("txt2img", "img2img", "inpaint")
                )
    return PngInfo(image, note, infotext, to_txt2img, to_img2img, to_inpaint)


def described(picture: Picture) -> str:
    """A picture in words: its size, and whether anything is written inside."""
    size = f"{picture.format}, {picture.width} × {picture.height} pixels"
    if picture.infotext:
        return f"<p>{escape(size)}</p>"
    return f"<p>{escape(size)}. <b>Nothing is written inside</b>: it was saved without, or cleaned since.</p>"
