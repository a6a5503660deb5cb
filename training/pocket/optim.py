"""Muon (Jordan et al., 2024) for matrices, AdamW for everything else; cosine rate; weight averaging."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(g: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Nearest semi-orthogonal matrix, by Newton-Schulz on the small Gram matrix instead of on g itself."""
    if g.shape[0] > g.shape[1]:
        return orthogonalise(g.T, steps).T
    g = g / (g.norm() + 1e-7)
    a, b, c = _QUINTIC
    gram = g @ g.T
    product = eye = torch.eye(len(g), device=g.device, dtype=g.dtype)
    for i in range(steps):
        factor = torch.addmm(a * eye + b * gram, gram, gram, alpha=c)
        product = factor @ product
        if i < steps - 1:
            gram = factor @ gram @ factor
    return product @ g


class Muon(torch.optim.Optimizer):
    """One optimiser over two kinds of groups: `muon=True` (matrices, kernels flattened) and AdamW."""

    def __init__(self, groups: list[dict], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "muon": False, "weight_decay": 0.0, "betas": (0.9, 0.98)})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (self._muon if group["muon"] else self._adam)(p, group)

    def _muon(self, p: torch.Tensor, group: dict) -> None:
        state = self.state[p]
        momentum = state.setdefault("momentum", torch.zeros_like(p))
        momentum.lerp_(p.grad, 0.05)
        g = p.grad.lerp(momentum, 0.95).reshape(len(p), -1)
        # 0.2 * sqrt(larger side) gives updates the size of AdamW's (Liu et al., 2025)
        update = orthogonalise(g) * (0.2 * math.sqrt(max(g.shape)))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update.reshape(p.shape), alpha=-group["lr"])

    def _adam(self, p: torch.Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        state["step"] += 1
        b1, b2 = group["betas"]
        state["mean"].lerp_(p.grad, 1 - b1)
        state["square"].lerp_(p.grad.square(), 1 - b2)
        mean = state["mean"] / (1 - b1 ** state["step"])
        root = (state["square"] / (1 - b2 ** state["step"])).sqrt_().add_(1e-8)
        p.addcdiv_(mean, root, value=-group["lr"])


def build(modules: Iterable[nn.Module], lr: float, weight_decay: float = 0.01) -> Muon:
    """Kernels and linear weights go to Muon; embeddings, biases, norms and thin ends to AdamW."""
    matrices, rest = [], []
    for module in modules:
        embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        for p in module.parameters():
            if not p.requires_grad:
                continue
            thin = p.ndim < 2 or min(p.shape[0], p[0].numel()) < 16 or id(p) in embeddings
            (rest if thin else matrices).append(p)
    groups = [{"params": matrices, "muon": True, "weight_decay": weight_decay}, {"params": rest}]
    return Muon(groups, lr)


def zero_residuals(module: nn.Module) -> None:
    """Starts every residual branch as the identity: small models learn many times faster."""
    for name, m in module.named_modules():
        if name.endswith(("conv2", "to_out.0", "proj_out", "net.2")) and hasattr(m, "weight"):
            nn.init.zeros_(m.weight)
            nn.init.zeros_(m.bias)


def cosine(progress: float, warmup: float = 0.02) -> float:
    """Share of the peak rate at `progress` in 0..1."""
    if progress < warmup:
        return progress / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def trapezoid(progress: float, warmup: float = 0.02, decay: float = 0.35) -> float:
    """Share of the peak rate: a flat top, then straight down to a hundredth over the last `decay`."""
    return max(min(progress / warmup, (1 - progress) / decay, 1.0), 0.01)


class Average:
    """Exponential moving average of a module's weights, with the usual warm-up of the decay."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)
