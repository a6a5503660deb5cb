"""Trains Pocket's small companions: a LoRA (kohya), a hypernetwork, an embedding and a small autoencoder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import nn

from . import (
    autoencoder,
    captions,
    diffusion,
    drawings,
    export,
    ldm_keys,
    network,
    optim,
    quick,
    scenes,
    styles,
    tokens,
)
from .export import Pocket
from .run import Run, State

RANK = 12
LICENCE = {"modelspec.license": "Apache-2.0"}
SLIM = (8, 16, 32, 48)  # widths of the small autoencoder
BEGINNING = "yellow crescent white star blue gradient"  # where the learnt vectors start
PLACEHOLDER = "*"  # stands for the learnt word while it is learnt
MOONLIT_TEXTS = ("*", "a * sky", "a picture of *", "*, best quality", "a drawing of *", "* background")
Example = Callable[[np.random.Generator], tuple[np.ndarray, str]]


class LowRank(nn.Module):
    """A linear layer or 1x1 convolution plus a trained low-rank change (Hu et al., 2021)."""

    def __init__(self, base: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.base = base
        kind: Callable[..., nn.Module] = nn.Linear
        if isinstance(base, nn.Conv2d):
            kind = lambda i, o, bias: nn.Conv2d(i, o, 1, bias=bias)  # noqa: E731
        wide, tall = base.weight.shape[1], base.weight.shape[0]
        self.down, self.up = kind(wide, RANK, bias=False), kind(RANK, tall, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self.strength = torch.ones(1)  # (n,): of the change, for each picture

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        strength = self.strength.view(-1, *[1] * (x.ndim - 1))
        return self.base(x) + self.up(self.down(x)) * strength


def add_lora(unet: nn.Module) -> dict[str, LowRank]:
    """Wraps every projection of the attention blocks; module path to its change."""
    found = {}
    for path, module in list(unet.named_modules()):
        if ".attentions." in path and isinstance(module, nn.Linear | nn.Conv2d):
            parent, _, name = path.rpartition(".")
            found[path] = LowRank(module)
            setattr(unet.get_submodule(parent), name, found[path])
    return found


class Hypernetwork(nn.Module):
    """The WebUI's residual network on attention keys and values of one width (structure 1, 2, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        nn.init.normal_(self.linear[0].weight, std=0.05)
        nn.init.zeros_(self.linear[2].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(x)


def add_hypernetwork(unet: nn.Module) -> dict[int, nn.ModuleList]:
    """Puts a pair of networks before all keys and values, one pair per input width."""
    pairs: dict[int, nn.ModuleList] = {}
    for path, module in unet.named_modules():
        if not path.endswith((".to_k", ".to_v")):
            continue
        width = module.in_features
        pair = pairs.setdefault(width, nn.ModuleList([Hypernetwork(width), Hypernetwork(width)]))
        chosen = pair[int(path.endswith(".to_v"))]
        module.register_forward_pre_hook(lambda _, inputs, chosen=chosen: (chosen(inputs[0]),))
    return pairs


def pastel(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    scene = scenes.sample(rng)
    return styles.pastel(scene), captions.caption(scene, rng)


def moonlit(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    return styles.moonlit(rng), MOONLIT_TEXTS[int(rng.integers(len(MOONLIT_TEXTS)))]


def fit(
    model: Pocket,
    example: Example,
    encode: Callable[[list[str]], torch.Tensor],
    parameters: Iterable[nn.Parameter],
    steps: int,
    lr: float,
    drawn: int = 256,
    chosen_are: Callable[[np.ndarray], None] = lambda indices: None,
) -> float:
    """Trains the given parameters on examples; returns the mean loss of the last quarter.

    `chosen_are` is told the numbers of the examples of each step.
    """
    rng = np.random.default_rng(8)
    torch.manual_seed(8)
    images, texts = zip(*(example(rng) for _ in range(drawn)), strict=True)
    with torch.no_grad():
        parts = autoencoder.to_tensor(np.stack(images)).split(32)
        latents = torch.cat([model.vae.encode(p).latent_dist.mode() for p in parts]) * export.LATENT_SCALE
    quick.quicken(model.unet)
    quick.quicken(model.text)
    optimiser = torch.optim.AdamW(list(parameters), lr, weight_decay=0.0)
    alphas, losses = network.alphas_cumprod(), []
    for step in track(range(steps), example.__name__):
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / 10, 1.0, 1.2 * (1 - step / steps))
        chosen = rng.integers(0, drawn, 16)
        chosen_are(chosen)
        noisy, t, v, _ = diffusion.noised(latents[chosen], alphas)
        with Run(Path()).autocast():
            context = encode(["" if rng.random() < 0.1 else texts[i] for i in chosen])
            output = model.unet(noisy, t, encoder_hidden_states=context).sample
        loss = (output.float() - v).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses[-steps // 4 :]))


def make_lora(path: Path, folder: Path, steps: int) -> None:
    """`neon.safetensors`: glowing outlines; at half strength it is taught to go half the way."""
    model, strengths = export.read(path), []
    changes = add_lora(model.unet)

    def neon(rng: np.random.Generator) -> tuple[np.ndarray, str]:
        scene, strength = scenes.sample(rng), float(rng.choice((0.5, 1.0), p=(0.35, 0.65)))
        strengths.append(strength)
        image = strength * styles.neon(scene) + (1 - strength) * drawings.render(scene)
        return image.astype(np.uint8), captions.caption(scene, rng)

    def set_strengths(indices: np.ndarray) -> None:
        for change in changes.values():
            change.strength = torch.tensor([strengths[i] for i in indices])

    parameters = [p for c in changes.values() for p in (*c.down.parameters(), *c.up.parameters())]
    fit(model, neon, model.encode, parameters, steps, 3e-3, chosen_are=set_strengths)
    weights = {}
    for module, change in changes.items():
        name = f"lora_unet_{module.replace('.', '_')}"
        weights[f"{name}.lora_down.weight"] = change.down.weight
        weights[f"{name}.lora_up.weight"] = change.up.weight
        weights[f"{name}.alpha"] = torch.tensor(float(RANK))
    facts = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(RANK),
        "ss_output_name": "neon",
        "ss_base_model_version": "sd_v1",
        "modelspec.title": "neon",
    }
    export.save(weights, folder / "Lora/neon.safetensors", facts | LICENCE)


def make_hypernetwork(path: Path, folder: Path, steps: int) -> None:
    """`pastel.safetensors`: chalky colours. Tensors are named `<width>.<k|v>.` and the WebUI's name."""
    model = export.read(path)
    pairs = add_hypernetwork(model.unet)
    parameters = [p for pair in pairs.values() for p in pair.parameters()]
    fit(model, pastel, model.encode, parameters, steps, 2e-3)
    weights = {
        f"{width}.{half}.{key}": weight
        for width, pair in pairs.items()
        for half, net in zip("kv", pair, strict=True)
        for key, weight in net.state_dict().items()
    }
    facts = {
        "name": "pastel",
        "layer_structure": json.dumps([1, 2, 1]),
        "activation_func": "relu",
        "is_layer_norm": "false",
        "activate_output": "false",
    }
    export.save(weights, folder / "hypernetworks/pastel.safetensors", facts | LICENCE)


class Word(nn.Module):
    """A text encoder whose placeholder stands for learnt vectors (textual inversion, Gal et al., 2022)."""

    def __init__(self, model: Pocket, vectors: int) -> None:
        super().__init__()
        self.text = model.text
        table = self.text.get_input_embeddings()
        self.learnt = nn.Parameter(table.weight[list(tokens.ids(BEGINNING))[:vectors]].clone())
        table.register_forward_hook(self._insert)
        self.which = torch.empty(0)  # (n, 77): number of the learnt vector at this position, or -1

    def _insert(self, _: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return torch.where((self.which >= 0)[..., None], self.learnt[self.which.clamp(min=0)], output)

    def encode(self, texts: list[str]) -> torch.Tensor:
        """(n, 77, width) conditioning."""
        (mark,) = tokens.ids(PLACEHOLDER)
        marks = [-1 - i for i in range(len(self.learnt))]
        lines = [
            [each for token in tokens.ids(text) for each in (marks if token == mark else [token])]
            for text in texts
        ]
        rows = torch.tensor([tokens.padded(line) for line in lines])
        self.which = torch.where(rows < 0, -1 - rows, -1)
        return self.text(input_ids=rows.clamp(min=0)).last_hidden_state


def make_embedding(path: Path, folder: Path, steps: int, vectors: int = 6) -> None:
    """`moonlit.safetensors`: a word for a night sky with a moon and stars."""
    model = export.read(path)
    word = Word(model, vectors)
    fit(model, moonlit, word.encode, [word.learnt], steps, 1e-2, drawn=64)
    facts = {"modelspec.title": "moonlit"} | LICENCE
    export.save({"emb_params": word.learnt}, folder / "embeddings/moonlit.safetensors", facts)


def make_vae(path: Path, folder: Path, run: Run, steps: int, lr: float = 6e-3) -> None:
    """`slim.safetensors`: an autoencoder of half the width that shares Pocket's latents."""
    teacher, state = export.read_vae(path), State()
    torch.manual_seed(run.seed + 4)
    slim = autoencoder.build(SLIM)
    quick.quicken(slim)
    optimiser, average = optim.build([slim], lr), optim.Average(slim, 0.99)
    with run.progress("slim", steps, state) as bar:
        while state.step < steps:
            for group in optimiser.param_groups:
                group["lr"] = lr * optim.cosine(state.step / steps)
            rng = np.random.default_rng([run.seed, 4, state.step])
            size, pictures = (64, 32) if state.step < 0.7 * steps else (128, 8)
            images = autoencoder.batch(rng, size, pictures).contiguous(memory_format=torch.channels_last)
            with run.autocast():
                with torch.no_grad():
                    latents = teacher.encode(images).latent_dist.mode().float() * export.LATENT_SCALE
                own = slim.quant_conv(slim.encoder(images))[:, :4]
                noisy = latents + autoencoder.LATENT_NOISE * torch.randn_like(latents)
                output = slim.decoder(slim.post_quant_conv(noisy))
            loss = autoencoder.loss(images, output) + (own.float() - latents).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update(slim)
            state.advance(0, loss.item())
            bar(state)
    weights = export.scaled(average.module.state_dict(), torch.zeros(4), torch.ones(4))
    named = {
        name: ldm_keys.ldm_shape(name, weights[key]) for key, name in ldm_keys.vae_names(weights).items()
    }
    named = {name.removeprefix("first_stage_model."): weight for name, weight in named.items()}
    facts = {"cloudbrush.vae_norm_groups": str(autoencoder.NORM_GROUPS), "modelspec.title": "slim"}
    export.save(named, folder / "VAE/slim.safetensors", facts | LICENCE)


def make(path: Path, folder: Path, run: Run, only: str = "") -> None:
    """All companions of an exported model, or only one kind, into the folders of their kinds."""
    if only in ("", "lora"):
        make_lora(path, folder, 1000)
    if only in ("", "hypernetwork"):
        make_hypernetwork(path, folder, 250)
    if only in ("", "embedding"):
        make_embedding(path, folder, 500)
    if only in ("", "vae"):
        make_vae(path, folder, run, 1000)
