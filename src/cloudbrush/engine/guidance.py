"""What steers an image: its prompts as text-encoder output, over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.prompt import cut_network_tags, split_parts, strip_comments
from cloudbrush.domain.prompt_editing import Period, Timeline, period_at, schedule
from cloudbrush.engine.extras import PLAIN, Extras

MOST_PARTS = 64  # of a prompt; each is a row of every UNet call


@dataclass(frozen=True, eq=False)
class Condition:
    """A text as the denoiser reads it."""

    vectors: Tensor  # (tokens, width)
    pooled: Tensor | None = None  # SDXL: (width,) the text as a whole
    numbers: tuple[float, ...] = ()  # SDXL: size and crop in pixels, of the refiner also a score

    @property
    def tokens(self) -> int:
        """How many vectors it has."""
        return len(self.vectors)

    def zeroed(self) -> Condition:
        """The same with no text in it."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return replace(self, vectors=torch.zeros_like(self.vectors), pooled=pooled)

    def repeated_to(self, tokens: int) -> Condition:
        """As long as that, by repeating its last vector."""
        missing = tokens - self.tokens
        if missing <= 0:
            return self
        return replace(self, vectors=torch.cat([self.vectors, self.vectors[-1:].expand(missing, -1)]))

    def fitted_to(self, tokens: int) -> Condition:
        """Just as long as that, by repeating its last vector or cutting off its end."""
        fitted = self.repeated_to(tokens)
        return replace(fitted, vectors=fitted.vectors[:tokens])

    def filled_to(self, tokens: int, filling: Tensor) -> Condition:
        """As long as that or longer, by as many (77, width) empty chunks as fit."""
        chunks = (tokens - self.tokens) // len(filling)
        return replace(self, vectors=torch.cat([self.vectors, *[filling] * chunks])) if chunks > 0 else self


class Encode(Protocol):
    """A text encoder as prompts need it; see `conditioning.Reader`."""

    def __call__(self, texts: list[str], *, size: tuple[int, int], negative: bool) -> list[Condition]:
        """Variants of one prompt, for an image of (width, height) pixels."""

    @property
    def filling(self) -> Tensor | None:
        """(77, width) what the shorter of prompt and negative prompt is filled with; None: it stays short."""


@dataclass(frozen=True)
class Skipping:
    """When the negative prompt is left out to save time (specification 3.3)."""

    minimum_sigma: float = 0.0  # NGMS: below it, on odd evaluations
    all_steps: bool = False  # NGMS on even ones too
    early: float = 0.0  # share of evaluations at the beginning
    evaluations: int = 0  # of the pass, that `early` is a share of; 0: as many as its timeline has

    def applies(self, evaluation: int, sigma: float, total: int) -> bool:
        """Whether the prediction of that number, from 0, does without; `total`: of the timeline."""
        if self.early and evaluation / (self.evaluations or total) <= self.early:
            return True
        return (self.all_steps or evaluation % 2 == 1) and sigma < self.minimum_sigma


@dataclass(frozen=True, eq=False)
class Guidance:
    """What steers one prediction: conditions, and how strongly they count."""

    positive: tuple[tuple[Condition, float], ...]  # parts joined by AND, each with its weight
    negative: Condition | None  # None: left out this time
    scale: float
    extras: Extras = PLAIN  # what alters the denoiser meanwhile

    @property
    def rows(self) -> int:
        """Rows of a UNet call that one prediction takes."""
        return len(self.positive) + (self.negative is not None)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """One per row, the negative prompt last; parts are as long as the longest of them."""
        parts = [part for part, _ in self.positive]
        longest = max(part.tokens for part in parts)
        negative = () if self.negative is None else (self.negative,)
        return (*(part.repeated_to(longest) for part in parts), *negative)

    def combine(self, denoised: Sequence[Tensor], scale: float | None = None) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022) over the rows' predictions.

        Without negative prompt the first part stands in for it, at scale 1. `scale` overrules the own one.
        """
        chosen = self.scale if scale is None else scale
        base = self.base(denoised)
        result = base
        for part, (_, weight) in zip(denoised, self.positive, strict=False):
            result = result + (part - base) * (weight * (1.0 if self.negative is None else chosen))
        return result

    def base(self, denoised: Sequence[Tensor]) -> Tensor:
        """Of the rows' predictions the one that guidance leads away from."""
        return denoised[0] if self.negative is None else denoised[-1]


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt over time: its periods and the text-encoder output of each, all of one length."""

    periods: tuple[Period, ...]
    encoded: tuple[Condition, ...]

    def at(self, evaluation: int) -> Condition:
        """What counts for the denoiser's call of that number, from 0."""
        return self.encoded[period_at(self.periods, evaluation)]

    @property
    def tokens(self) -> int:
        """How many vectors each has."""
        return self.encoded[0].tokens

    def fitted_to(self, tokens: int) -> Reading:
        """With each just as long as that."""
        return replace(self, encoded=tuple(one.fitted_to(tokens) for one in self.encoded))


@dataclass(frozen=True, eq=False)
class Guide:
    """What steers an image from its first prediction of a pass to its last."""

    positive: tuple[tuple[Reading, float], ...]
    negative: Reading
    scale: float
    extras: Extras = PLAIN
    skipping: Skipping = Skipping()
    total: int = 1  # evaluations that the pass has

    @classmethod
    def of(
        cls,
        prompt: str,
        negative_prompt: str,
        reader: Encode,
        timeline: Timeline,
        scale: float,
        extras: Extras = PLAIN,
        *,
        size: tuple[int, int],
        skipping: Skipping = Skipping(),
        fit_negative: bool = False,
    ) -> Guide:
        """The guide of a pass over (width, height) pixels; shares in prompts follow its timeline.

        `fit_negative`: the negative prompt is made as long as the prompt, as the WebUI did before 1.6.
        """
        text, _ = cut_network_tags(strip_comments(prompt))
        parts = split_parts(text)
        if len(parts) > MOST_PARTS:
            raise GenerationFailed(
                f"AND joins {len(parts)} parts, {MOST_PARTS} are allowed",
                field="prompt",
                hint="Say several things in one part.",
            )
        read = _Read(reader, timeline, size)
        negative = read(strip_comments(negative_prompt), negative=True)
        positive = tuple((read(part.text), part.weight) for part in parts)
        if fit_negative:
            negative = negative.fitted_to(max(reading.tokens for reading, _ in positive))
        elif reader.filling is not None:
            positive, negative = _filled(positive, negative, reader.filling)
        return cls(positive, negative, scale, extras, skipping, max(1, timeline.steps))

    def at(self, evaluation: int, sigma: float) -> Guidance:
        """What steers the prediction of that number, from 0, at that noise level.

        `sigma`: of samplers that count in timesteps, the timestep.
        """
        parts = tuple((reading.at(evaluation), weight) for reading, weight in self.positive)
        skipped = self.skipping.applies(evaluation, sigma, self.total)
        return Guidance(parts, None if skipped else self.negative.at(evaluation), self.scale, self.extras)


@dataclass(frozen=True)
class _Read:
    """A prompt's way to its reading."""

    reader: Encode
    timeline: Timeline
    size: tuple[int, int]

    def __call__(self, text: str, *, negative: bool = False) -> Reading:
        periods = tuple(schedule(text, self.timeline))
        texts = [period.text for period in periods]
        return Reading(periods, tuple(self.reader(texts, size=self.size, negative=negative)))


def _filled(
    positive: tuple[tuple[Reading, float], ...], negative: Reading, filling: Tensor
) -> tuple[tuple[tuple[Reading, float], ...], Reading]:
    """The same, with parts as long as their longest, and the shorter side filled with empty chunks."""
    parts = max(reading.tokens for reading, _ in positive)
    longest = max(parts, negative.tokens)

    def fill(reading: Reading) -> Reading:
        encoded = (one.filled_to(longest, filling) for one in reading.encoded)
        return replace(reading, encoded=tuple(encoded))

    def stretch(reading: Reading) -> Reading:
        return replace(reading, encoded=tuple(one.repeated_to(parts) for one in reading.encoded))

    return tuple((fill(stretch(reading)), weight) for reading, weight in positive), fill(negative)


def rescaled(guided: Tensor, positive: Tensor, share: float) -> Tensor:
    """A guided output of the denoiser with, as far as `share` says, the spread of the unguided one.

    guided, positive: (channels, height, width). Lin et al. 2024 (arXiv 2305.08891), section 3.4.
    """
    return guided * (share * positive.std() / guided.std() + (1 - share))
