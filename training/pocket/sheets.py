"""Pictures people look at while training: contact sheets of samples and curves of losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw


def to_image(image: torch.Tensor) -> Image.Image:
    """(3, h, w) in -1..1 to an 8-bit picture."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def save(images: torch.Tensor, path: Path, columns: int, captions: list[str] | None = None) -> None:
    """Writes images (n, 3, h, w) row by row, each over its caption when captions are given."""
    _, _, height, width = images.shape
    strip = 40 if captions else 0
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + strip + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        x, y = i % columns * (width + 4), i // columns * (height + strip + 4)
        sheet.paste(to_image(image), (x, y))
        if captions:
            draw.multiline_text(
                (x + 2, y + height + 1), _wrap(captions[i], width // 6), fill="black", spacing=1
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _wrap(text: str, columns: int) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > columns:
            lines.append("")
        lines[-1] += word + " "
    return "\n".join(lines[:3])


def curve(values: list[float], path: Path, width: int = 640, height: int = 240) -> None:
    """A smoothed loss curve on a logarithmic axis."""
    if len(values) < 8:
        return
    window = max(len(values) // 200, 1)
    smooth = np.log(np.convolve(values, np.ones(window) / window, "valid") + 1e-9)
    low, high = float(smooth.min()), float(smooth.max()) + 1e-6
    x = np.linspace(8, width - 8, len(smooth))
    y = height - 8 - (smooth - low) / (high - low) * (height - 16)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(40, 90, 210), width=2)
    draw.text((10, 2), f"{np.exp(high):.4g} -> {np.exp(smooth[-1]):.4g}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
