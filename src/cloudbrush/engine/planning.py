"""From a generation to its passes: prompts, sampler, steps and size of each (specification 3.5, 3.8)."""

from __future__ import annotations

from dataclasses import dataclass

from cloudbrush.domain.generation import Generation, HiresFix, Img2Img
from cloudbrush.domain.prompt_editing import Timeline
from cloudbrush.domain.sampling import Sampler, find_sampler
from cloudbrush.engine.conditioning import Reader
from cloudbrush.engine.extras import Extras
from cloudbrush.engine.guidance import Guide, Skipping
from cloudbrush.engine.hires import Target
from cloudbrush.engine.materials import Loaded, Materials, hires_of
from cloudbrush.engine.networks.embedding import Embedding
from cloudbrush.engine.passes import Painter, Pass, Relay
from cloudbrush.engine.runs import Run
from cloudbrush.engine.sampling import Late, Plan


@dataclass(frozen=True)
class _Asked:
    """What a generation asks of one pass."""

    prompt: str
    negative_prompt: str
    sampler: Sampler
    schedule: str
    steps: int
    late: Late | None  # None: begins with noise alone
    size: tuple[int, int]  # width and height in pixels
    sides: tuple[int, int]  # height and width of the latents
    timeline: Timeline


class Planner:
    """Plans the passes of one run; what its prompts used is known afterwards."""

    def __init__(self, run: Run, materials: Materials) -> None:
        self._run = run
        self._generation: Generation = run.generation
        self._materials = materials
        self._readers: list[Reader] = []

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        """Those that stood in the prompts of the passes planned so far."""
        met = {one.name: one for reader in reversed(self._readers) for one in reader.embeddings}
        return tuple(met.values())

    def first(self) -> Pass:
        """The pass that begins with noise, or with a picture; raises `GenerationFailed`."""
        generation, base = self._generation, self._materials.base
        sampler = _sampler(generation.sampler)
        size = size_of(generation)
        sides = (size[1] // base.checkpoint.downscale, size[0] // base.checkpoint.downscale)
        asked = _Asked(
            generation.prompt,
            generation.negative_prompt,
            sampler,
            generation.schedule,
            generation.steps,
            _late(generation) if isinstance(generation, Img2Img) else None,
            size,
            sides,
            Timeline(_evaluations(sampler, generation.steps), old_rule=generation.options.old_prompt_editing),
        )
        refined = hires_of(generation) is None or generation.options.hires_refiner != "second pass"
        return self._planned(asked, base, self._materials.extras, refined=refined)

    def second(self, hires: HiresFix, target: Target) -> Pass:
        """Hires fix's pass over the enlarged image; raises `GenerationFailed`."""
        generation, loaded = self._generation, self._materials.hires
        sampler = _sampler(hires.sampler or generation.sampler)
        steps = hires.steps or generation.steps
        before = _evaluations(_sampler(generation.sampler), generation.steps)
        asked = _Asked(
            hires.prompt or generation.prompt,
            hires.negative_prompt or generation.negative_prompt,
            sampler,
            hires.schedule or generation.schedule,
            steps,
            Late.exactly(steps, hires.denoising_strength),
            (target.width, target.height),
            target.sides(loaded.checkpoint.downscale),
            Timeline(_evaluations(sampler, steps), before, old_rule=generation.options.old_prompt_editing),
        )
        refined = generation.options.hires_refiner != "first pass"
        return self._planned(asked, loaded, self._materials.hires_extras, refined=refined)

    def _planned(self, asked: _Asked, loaded: Loaded, extras: Extras, *, refined: bool) -> Pass:
        options = self._generation.options
        sigmas = loaded.checkpoint.sigmas_for(options.noise_schedule, downcast=options.downcast_alphas)
        plan = Plan.of(asked.sampler, asked.schedule, asked.steps, sigmas, options, asked.late)
        painter = self._painter(asked, plan, loaded, extras)
        relay = self._relay(asked, plan, loaded, extras) if refined else None
        return Pass(self._run, plan, painter, relay, asked.sides)

    def _relay(self, asked: _Asked, plan: Plan, before: Loaded, extras: Extras) -> Relay | None:
        wanted, refiner = self._generation.refiner, self._materials.refiner
        if wanted is None or refiner is None or refiner.checkpoint.sha256 == before.checkpoint.sha256:
            return None
        painter = self._painter(asked, plan, refiner, extras)
        return Relay(painter, wanted.switch_at, self._generation.options.refiner_by_steps)

    def _painter(self, asked: _Asked, plan: Plan, loaded: Loaded, extras: Extras) -> Painter:
        options = self._generation.options
        reader = Reader(
            loaded.texts,
            extras,
            self._run.check,
            clip_skip=self._generation.clip_skip,
            emphasis=options.emphasis,
            padded=options.pad_prompts,
        )
        self._readers.append(reader)
        guide = Guide.of(
            asked.prompt,
            asked.negative_prompt,
            reader,
            asked.timeline,
            self._generation.cfg_scale / plan.algorithm.guidance_divisor,
            extras,
            size=asked.size,
            skipping=Skipping(
                options.negative_minimum_sigma,
                options.negative_minimum_all_steps,
                options.skip_early_guidance,
                plan.calls,
            ),
        )
        sigmas = loaded.checkpoint.sigmas_for(options.noise_schedule, downcast=options.downcast_alphas)
        return Painter(loaded, guide, sigmas)


def size_of(generation: Generation) -> tuple[int, int]:
    """Width and height in pixels of a complete generation's first pass."""
    assert generation.width is not None
    assert generation.height is not None
    return generation.width, generation.height


def _late(generation: Img2Img) -> Late:
    begin = Late.exactly if generation.fix_steps else Late.share
    return begin(generation.steps, generation.denoising_strength)


def _evaluations(sampler: Sampler, steps: int) -> int:
    """As prompt editing counts them."""
    return steps * (2 if sampler.second_order else 1)


def _sampler(name: str) -> Sampler:
    sampler = find_sampler(name)
    assert sampler is not None  # a generation only takes known ones
    return sampler
