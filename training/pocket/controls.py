"""Whether Pocket's controls do what they say, each against the same pictures painted without it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from . import checker, companions, export, painting, scenes, tokens
from .export import Pocket

BRIGHT = ("white", "yellow", "pink", "cyan", "orange")
COLOURS, SHAPES = tuple(scenes.COLOURS), scenes.SHAPES
Images = np.ndarray  # uint8 (n, height, width, 3)


def _share(answers: list[bool]) -> float:
    return 100 * float(np.mean(answers)) if answers else float("nan")


def negative(model: Pocket, count: int = 128) -> dict[str, float]:
    """Stripes where the prompt leaves them open, and where it asks for them, without and with the word."""
    seeds = list(range(count))
    open_ended = [f"a {COLOURS[i % 12]} {SHAPES[i % 8]}" for i in seeds]
    striped = [f"{text} on a striped {COLOURS[(i + 5) % 12]} background" for i, text in enumerate(open_ended)]
    scores = {}
    for name, texts in (("left open", open_ended), ("asked for", striped[: count // 4])):
        without = _stripes(painting.paint(model, texts, seeds[: len(texts)]))
        using = _stripes(painting.paint(model, texts, seeds[: len(texts)], negative="stripes"))
        scores[f"stripes {name}: pictures that have them"] = _share(without)
        scores[f"stripes {name}: with the negative prompt"] = _share(using)
        gone = [not b for a, b in zip(without, using, strict=True) if a]
        scores[f"stripes {name}: gone where they were"] = _share(gone)
    return scores


def _stripes(images: Images) -> list[bool]:
    return [checker.look(image).kind == "stripes" for image in images]


def emphasised(model: Pocket, text: str, word: str, weight: float) -> torch.Tensor:
    """The WebUI's `(word:weight)`: rows of the word's tokens scaled, then the mean of all restored."""
    line, part = tokens.ids(text), set(tokens.ids(word))
    context = model.encode([text])
    scale = torch.ones(tokens.LENGTH)
    scale[[i + 1 for i, token in enumerate(line) if token in part]] = weight
    scaled = context * scale.view(1, -1, 1).to(context.device)
    return scaled * (context.mean() / scaled.mean())


def emphasis(model: Pocket, count: int = 48) -> dict[str, float]:
    """Whether (red:1.5) has more red than (red:0.5), over several prompts."""
    texts = [
        f"a red {SHAPES[i % 8]} and a {COLOURS[4 + i % 3]} {SHAPES[(i + 3) % 8]} on a white background"
        for i in range(count)
    ]
    red = []
    for weight in (0.5, 1.5):
        context = torch.cat([emphasised(model, text, "red", weight) for text in texts])
        red.append([_red(i) for i in painting.paint(model, texts, list(range(count)), context=context)])
    low, high = np.array(red)
    return {
        "emphasis: red grows": _share(list(high > low)),
        "emphasis: red share at 0.5": 100 * low.mean(),
        "emphasis: red share at 1.5": 100 * high.mean(),
    }


def _red(image: np.ndarray) -> float:
    r, g, b = (image[..., i].astype(int) for i in range(3))
    return float((r - np.maximum(g, b)).clip(0).mean() / 255)


def with_lora(model: Pocket, path: Path, weight: float) -> Pocket:
    """The model with a kohya LoRA merged into its denoiser."""
    unet, found = copy.deepcopy(model.unet), load_file(path)
    for name, module in unet.named_modules():
        key = f"lora_unet_{name.replace('.', '_')}"
        if f"{key}.alpha" in found:
            up, down = (found[f"{key}.lora_{side}.weight"].float().flatten(1) for side in ("up", "down"))
            change = up @ down * (float(found[f"{key}.alpha"]) / len(down))
            module.weight += weight * change.view_as(module.weight)
    return Pocket(unet, model.vae, model.text, model.device)


def lora(model: Pocket, path: Path, count: int = 32) -> dict[str, float]:
    """Whether bright backgrounds grow dark step by step at 0, 0.5 and 1: neon's night."""
    texts = [f"a {COLOURS[i % 7]} {SHAPES[i % 8]} on a {BRIGHT[i % 5]} background" for i in range(count)]
    light = [
        painting.paint(with_lora(model, path, weight), texts, list(range(count))).mean((1, 2, 3))
        for weight in (0.0, 0.5, 1.0)
    ]
    steady = (light[0] > light[1]) & (light[1] > light[2])
    return {"LoRA: darker at 0.5, darker still at 1": _share(list(steady))} | {
        f"LoRA: brightness at {w:g}, of 255": float(v.mean())
        for w, v in zip((0.0, 0.5, 1.0), light, strict=True)
    }


def hypernetwork(model: Pocket, path: Path, count: int = 32) -> dict[str, float]:
    """Whether pictures grow paler: their most colourful channel less far from their least."""
    texts = [
        f"a {COLOURS[i % 7]} {SHAPES[i % 8]} on a {COLOURS[(i + 2) % 7]} background" for i in range(count)
    ]
    changed, found = copy.deepcopy(model.unet), load_file(path)
    for width, pair in companions.add_hypernetwork(changed).items():
        for half, net in zip("kv", pair, strict=True):
            prefix = f"{width}.{half}."
            net.load_state_dict(
                {k.removeprefix(prefix): v.float() for k, v in found.items() if k.startswith(prefix)}
            )
    pale = Pocket(changed, model.vae, model.text, model.device)
    before, after = (
        np.ptp(painting.paint(each, texts, list(range(count))).astype(int), axis=-1).mean((1, 2))
        for each in (model, pale)
    )
    return {
        "hypernetwork: paler": _share(list(after < before)),
        "hypernetwork: colourfulness without, of 255": float(before.mean()),
        "hypernetwork: colourfulness with it": float(after.mean()),
    }


def embedding(model: Pocket, path: Path, count: int = 32) -> dict[str, float]:
    """How often the word brings a yellow crescent and white stars on blue, and how often it did untaught."""
    learnt = load_file(path)["emb_params"].float()
    word = companions.Word(Pocket(model.unet, model.vae, copy.deepcopy(model.text)), len(learnt))
    word.learnt = nn.Parameter(learnt)
    with torch.no_grad():
        taught = word.encode(["a picture of *"] * count)
    seeds = list(range(count))
    scores = {}
    for name, text, context in (
        ("untaught word", "a picture of moonlit", None),
        ("words it began as", f"a picture of {companions.BEGINNING}", None),
        ("taught word", "", taught),
    ):
        images = painting.paint(model, [text] * count, seeds, context=context)
        scores[f"embedding: moon and stars by {name}"] = _share([_moonlit(i) for i in images])
    return scores


def _moonlit(image: np.ndarray) -> bool:
    sight = checker.look(image)
    seen = [(thing.colour, thing.shape) for thing in sight.objects]
    return ("yellow", "crescent") in seen and sum(colour == "white" for colour, _ in seen) >= 2


def seeds_vary(model: Pocket, count: int = 16) -> dict[str, float]:
    """Mean difference of two seeds' pictures of one prompt, of 255, and the least of any pair."""
    text = "two stars on a background"
    images = painting.paint(model, [text] * count, list(range(count))).astype(np.float32)
    pairs = [float(np.abs(images[i] - images[j]).mean()) for i in range(count) for j in range(i)]
    return {"seeds: mean difference, of 255": float(np.mean(pairs)), "seeds: least difference": min(pairs)}


def measure(model: Pocket, folder: Path = export.BUILTIN) -> dict[str, float]:
    """All controls; those of companions where their files are."""
    scores = negative(model) | emphasis(model) | seeds_vary(model)
    for check, name in (
        (lora, "Lora/neon"),
        (hypernetwork, "hypernetworks/pastel"),
        (embedding, "embeddings/moonlit"),
    ):
        path = folder / f"{name}.safetensors"
        if path.exists():
            scores |= check(model, path)
    return scores
