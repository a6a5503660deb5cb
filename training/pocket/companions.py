"""Trains Pocket's small companions: a LoRA (kohya), a hypernetwork and an embedding (WebUI formats)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import nn

from . import autoencoder, captions, export, network, scenes, styles, tokens
from .export import Pocket

RANK = 8
LICENCE = {"modelspec.license": "Apache-2.0"}
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))


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


def neon(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    scene = scenes.sample(rng)
    return styles.neon(scene), captions.caption(scene, rng)


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
) -> float:
    """Trains the given parameters on examples; returns the mean loss of the last quarter."""
    rng = np.random.default_rng(8)
    torch.manual_seed(8)
    images, texts = zip(*(example(rng) for _ in range(drawn)), strict=True)
    with torch.no_grad():
        parts = autoencoder.to_tensor(np.stack(images)).split(32)
        latents = torch.cat([model.vae.encode(p).latent_dist.mode() for p in parts]) * export.LATENT_SCALE
    optimiser = torch.optim.AdamW(list(parameters), lr, weight_decay=0.0)
    alphas, losses = network.alphas_cumprod(), []
    for step in track(range(steps), example.__name__):
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / 10, 1.0, 1.2 * (1 - step / steps))
        chosen = rng.integers(0, drawn, 16)
        context = encode(["" if rng.random() < 0.1 else texts[i] for i in chosen])
        clean, noise = latents[chosen], torch.randn(len(chosen), *latents.shape[1:])
        t = ((torch.arange(16) + torch.rand(16)) / 16 * network.STEPS).long()
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, v = a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean
        loss = (model.unet(noisy, t, encoder_hidden_states=context).sample - v).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses[-steps // 4 :]))


def make_lora(path: Path, folder: Path, steps: int) -> None:
    """`neon.safetensors`: glowing outlines."""
    model = export.read(path)
    changes = add_lora(model.unet)
    parameters = [p for c in changes.values() for p in (*c.down.parameters(), *c.up.parameters())]
    fit(model, neon, model.encode, parameters, steps, 2e-3)
    weights = {}
    for module, change in changes.items():
        name = f"lora_unet_{module.replace('.', '_')}"
        weights[f"{name}.lora_down.weight"] = change.down.weight.detach().half().contiguous()
        weights[f"{name}.lora_up.weight"] = change.up.weight.detach().half().contiguous()
        weights[f"{name}.alpha"] = torch.tensor(float(RANK)).half()
    facts = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(RANK),
        "ss_output_name": "neon",
        "ss_base_model_version": "sd_v1",
        "modelspec.title": "neon",
    }
    save_file(weights, folder / "neon.safetensors", facts | LICENCE)


def make_hypernetwork(path: Path, folder: Path, steps: int) -> None:
    """`pastel.pt`: chalky colours."""
    model = export.read(path)
    pairs = add_hypernetwork(model.unet)
    parameters = [p for pair in pairs.values() for p in pair.parameters()]
    fit(model, pastel, model.encode, parameters, steps, 2e-3)
    record = {
        width: tuple({k: v.half() for k, v in n.state_dict().items()} for n in pair)
        for width, pair in pairs.items()
    }
    record |= {
        "step": steps,
        "name": "pastel",
        "layer_structure": [1, 2, 1],
        "activation_func": "relu",
        "is_layer_norm": False,
        "weight_initialization": "Normal",
        "use_dropout": False,
        "activate_output": False,
        "sd_checkpoint": None,
        "sd_checkpoint_name": "pocket",
        "dropout_structure": [0, 0, 0],
        "optional_info": "Apache-2.0",
    }
    torch.save(record, folder / "pastel.pt")


class Word(nn.Module):
    """A text encoder whose placeholder stands for learnt vectors (textual inversion, Gal et al., 2022)."""

    def __init__(self, model: Pocket, vectors: int) -> None:
        super().__init__()
        self.text = model.text
        table = self.text.get_input_embeddings()
        self.learnt = nn.Parameter(table.weight[list(tokens.ids("crescent star"))[:vectors]].clone())
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


def make_embedding(path: Path, folder: Path, steps: int, vectors: int = 2) -> None:
    """`moonlit.safetensors`: a word for a night sky with a moon and stars."""
    model = export.read(path)
    word = Word(model, vectors)
    fit(model, moonlit, word.encode, [word.learnt], steps, 2e-2, drawn=64)
    vectors_only = {"emb_params": word.learnt.detach().half()}
    save_file(vectors_only, folder / "moonlit.safetensors", {"modelspec.title": "moonlit"} | LICENCE)


def make(path: Path, folder: Path, steps: int = 240) -> None:
    """All companions of an exported model."""
    folder.mkdir(parents=True, exist_ok=True)
    make_lora(path, folder, steps)
    make_hypernetwork(path, folder, steps)
    make_embedding(path, folder, steps)
