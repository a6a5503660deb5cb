"""Denoised predictions: many requests, of many people, answered by one call of the UNet.

A request is one image at one noise level with its prompts; its rows of the call are its prompts' parts and
the negative prompt. Scaling in and out of the UNet and guidance are specification 3.2 and 3.3.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cloudbrush.engine import memory
from cloudbrush.engine.extras import Extras
from cloudbrush.engine.guidance import Condition, Guidance, rescaled
from cloudbrush.engine.models.checkpoint import Checkpoint
from cloudbrush.engine.models.families import Component
from cloudbrush.engine.networks.hypernetwork import applied
from cloudbrush.engine.networks.lora import Network
from cloudbrush.engine.networks.patches import Patches

MOST_ROWS = 64  # of a call, however small they are
MOST_SIZES = 16  # of images whose empty mask is kept


@dataclass(frozen=True, eq=False)
class Request:
    """Where a sampler wants to know the denoised image."""

    x: Tensor  # (channels, height, width) latents, float32
    sigma: float
    timestep: float  # what the UNet is told the sigma is
    guidance: Guidance
    masked: Tensor | None = None  # (5, height, width) mask and masked latents; None: all is to be painted


class Prediction(NamedTuple):
    """The denoised latents of a request, and those the negative prompt alone would give."""

    denoised: Tensor
    negative: Tensor


@dataclass(frozen=True, eq=False)
class _Row:
    """One row of a UNet call: an image at a noise level under one text."""

    x: Tensor
    sigma: float
    timestep: float
    condition: Condition
    masked: Tensor | None


class Denoiser:
    """A checkpoint's UNet as a denoiser; learns from running out of memory how much fits a call.

    `room`: how many places of latents, over all rows, one call may take.
    """

    def __init__(self, checkpoint: Checkpoint, room: int) -> None:
        self._checkpoint = checkpoint
        self._room = room
        self._nothing_masked: dict[tuple[int, int], Tensor] = {}  # latents' sides -> what inpainting is given
        self._patches = Patches(checkpoint.unet, Component.UNET)

    def has_place_for(self, network: Network) -> bool:
        """Whether a network acts on any of its layers; raises `ModelFileError` when its shapes do not fit."""
        return bool(self._patches.bound(network).layers)

    def ready_for(self, extras: Extras) -> bool:
        """Whether it can answer without networks merged into the UNet or taken out first."""
        return self._patches.key == extras.merged

    def rows_at_once(self, x: Tensor) -> int:
        """How many rows of latents like `x` share a call; at least one."""
        return max(1, min(MOST_ROWS, self._room // _places(x)))

    @torch.inference_mode()
    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """The predictions of each request; all must have latents of one shape, and networks of one key.

        Raises `GenerationFailed` when not even one row fits into memory.
        """
        extras = requests[0].guidance.extras
        self._patches.set(extras.loras)
        with applied(self._checkpoint.unet, extras.hypernetworks):
            return self._predictions(requests)

    def _predictions(self, requests: Sequence[Request]) -> list[Prediction]:
        rows = [row for request in requests for row in _rows(request)]
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            by_length[row.condition.tokens].append(index)
        denoised: dict[int, Tensor] = {}
        for indices in by_length.values():
            answers = self._fitting([rows[index] for index in indices])
            denoised.update(zip(indices, answers, strict=True))
        in_order = (denoised[index] for index in range(len(rows)))
        predictions = []
        for request in requests:
            own = [next(in_order) for _ in range(request.guidance.rows)]
            guided = self._rescaled(request, own, request.guidance.combine(own))
            predictions.append(Prediction(guided, request.guidance.base(own)))
        return predictions

    def _rescaled(self, request: Request, denoised: Sequence[Tensor], guided: Tensor) -> Tensor:
        """The guided prediction with the spread of the unguided one, for models of v that ask for it."""
        info = self._checkpoint.info
        if info.prediction != "v" or not info.cfg_rescale or request.guidance.negative is None:
            return guided
        total = request.sigma**2 + 1
        scale = request.sigma / math.sqrt(total)
        start = request.x / total  # denoised = start - scale * v
        positive = (start - request.guidance.combine(denoised, scale=1.0)) / scale
        return start - rescaled((start - guided) / scale, positive, info.cfg_rescale) * scale

    def _fitting(self, rows: list[_Row]) -> Iterator[Tensor]:
        """The rows' predictions, in calls as large as memory allows."""
        while rows:
            count = min(len(rows), self.rows_at_once(rows[0].x))
            answers = self._attempt(rows[:count])
            if answers is None:
                memory.release()
                self._room = count // 2 * _places(rows[0].x)
            else:
                yield from answers
                rows = rows[count:]

    def _attempt(self, rows: list[_Row]) -> Tensor | None:
        """One call, or None if there was no memory for so many rows."""
        try:
            return self._call(rows)
        except Exception as error:
            if not memory.ran_out(error):
                raise
            if len(rows) == 1:
                height, width = (side * self._checkpoint.downscale for side in rows[0].x.shape[-2:])
                raise memory.too_large(f"an image of {width}x{height}") from error
            return None

    def _call(self, rows: list[_Row]) -> Tensor:
        """One UNet call: (rows, channels, height, width) denoised, float32."""
        model = self._checkpoint
        dtype, device = model.placement.denoiser_dtype, model.placement.device
        x = torch.stack([row.x for row in rows])
        sigmas = torch.tensor([row.sigma for row in rows]).to(device, non_blocking=True)[:, None, None, None]
        timesteps = torch.tensor([row.timestep for row in rows])
        total = sigmas**2 + 1
        output: Tensor = model.unet(
            self._inputs(x / total.sqrt(), rows).to(dtype).contiguous(memory_format=torch.channels_last),
            timesteps.to(device, non_blocking=True),
            encoder_hidden_states=torch.stack([row.condition.vectors for row in rows]).to(dtype),
            added_cond_kwargs=_added(rows, dtype, device),
            return_dict=False,
        )[0].float()
        if model.info.prediction == "v":
            return x / total - output * (sigmas / total.sqrt())
        return x - output * sigmas

    def _inputs(self, x: Tensor, rows: list[_Row]) -> Tensor:
        """What the UNet takes in: latents, and for inpainting mask and masked latents behind them."""
        if self._checkpoint.input_channels == x.shape[1]:
            return x
        masked = [self._nothing(row) if row.masked is None else row.masked.to(x) for row in rows]
        return torch.cat([x, torch.stack(masked)], dim=1)

    def _nothing(self, row: _Row) -> Tensor:
        """Mask and masked latents where all is to be painted: ones, and grey as the autoencoder sees it."""
        height, width = row.x.shape[-2:]
        if (height, width) not in self._nothing_masked:
            if len(self._nothing_masked) == MOST_SIZES:
                self._nothing_masked.clear()
            self._nothing_masked[height, width] = nothing_masked(self._checkpoint, height, width)
        return self._nothing_masked[height, width]


def nothing_masked(checkpoint: Checkpoint, height: int, width: int) -> Tensor:
    """(channels + 1, height, width) what txt2img gives to an inpainting checkpoint (specification 3.2)."""
    sides = (height * checkpoint.downscale, width * checkpoint.downscale)
    grey = torch.zeros(1, 3, *sides, device=checkpoint.placement.device)  # of the range from -1 to 1
    latents = checkpoint.vae.encode(grey).latent_dist.mean[0] * checkpoint.latent_scale
    return torch.cat([torch.ones_like(latents[:1]), latents])


def _added(rows: list[_Row], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor] | None:
    """What SDXL is told beside the tokens, as diffusers names it."""
    pooled = [row.condition.pooled for row in rows if row.condition.pooled is not None]
    if not pooled:
        return None
    numbers = torch.tensor([row.condition.numbers for row in rows])
    return {"text_embeds": torch.stack(pooled).to(dtype), "time_ids": numbers.to(device, non_blocking=True)}


def _places(x: Tensor) -> int:
    return x.shape[-2] * x.shape[-1]


def _rows(request: Request) -> Iterator[_Row]:
    for condition in request.guidance.conditions:
        yield _Row(request.x, request.sigma, request.timestep, condition, request.masked)
