"""What steers an image: its prompts as text-encoder output, over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.domain.prompt import cut_network_tags, split_parts, strip_comments
from cloudbrush.domain.prompt_editing import Period, Timeline, period_at, schedule
from cloudbrush.engine.extras import PLAIN, Extras

# Variants of a prompt as text-encoder output, (tokens, width) each; see `conditioning.Reader`.
Encode = Callable[[list[str]], list[Tensor]]

MOST_PARTS = 64  # of a prompt; each is a row of every UNet call


@dataclass(frozen=True, eq=False)
class Guidance:
    """What steers one prediction: texts as (tokens, width) tensors, and how strongly they count."""

    positive: tuple[tuple[Tensor, float], ...]  # parts joined by AND, each with its weight
    negative: Tensor
    scale: float
    extras: Extras = PLAIN  # what alters the denoiser meanwhile

    @property
    def rows(self) -> int:
        """Rows of a UNet call that one prediction takes."""
        return len(self.positive) + 1

    def combine(self, denoised: Sequence[Tensor]) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022) over the rows' predictions, the negative one last."""
        *positive, negative = denoised
        result = negative
        for part, (_, weight) in zip(positive, self.positive, strict=True):
            result = result + (part - negative) * (weight * self.scale)
        return result


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt over time: its periods and the text-encoder output of each."""

    periods: tuple[Period, ...]
    encoded: tuple[Tensor, ...]

    def at(self, evaluation: int) -> Tensor:
        """What counts for the denoiser's call of that number, from 0."""
        return self.encoded[period_at(self.periods, evaluation)]


@dataclass(frozen=True, eq=False)
class Guide:
    """What steers an image from its first prediction to its last."""

    positive: tuple[tuple[Reading, float], ...]
    negative: Reading
    scale: float
    extras: Extras = PLAIN

    @classmethod
    def of(
        cls,
        generation: Txt2Img,
        encode: Encode,
        evaluations: int,
        scale: float,
        extras: Extras = PLAIN,
    ) -> Guide:
        """The guide of a generation whose sampler asks for so many predictions; shares follow them."""
        prompt, _ = cut_network_tags(strip_comments(generation.prompt))
        parts = split_parts(prompt)
        if len(parts) > MOST_PARTS:
            raise GenerationFailed(
                f"AND joins {len(parts)} parts, {MOST_PARTS} are allowed",
                field="prompt",
                hint="Say several things in one part.",
            )
        timeline = Timeline(evaluations)
        negative = _read(strip_comments(generation.negative_prompt), encode, timeline)
        positive = tuple((_read(part.text, encode, timeline), part.weight) for part in parts)
        return cls(positive, negative, scale, extras)

    def at(self, evaluation: int) -> Guidance:
        """What steers the prediction of that number, from 0."""
        parts = tuple((reading.at(evaluation), weight) for reading, weight in self.positive)
        return Guidance(parts, self.negative.at(evaluation), self.scale, self.extras)


def _read(text: str, encode: Encode, timeline: Timeline) -> Reading:
    periods = tuple(schedule(text, timeline))
    return Reading(periods, tuple(encode([period.text for period in periods])))
