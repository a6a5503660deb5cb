"""The two engines, each in a process of its own that paints when told: one JSON line in, one out."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROMPT = "a red circle on a blue background"
Paint = Callable[[int, int, int], None]  # images, side in pixels, steps


class Clock:
    """Seconds spent inside the model's own modules."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, owner: Any, name: str) -> None:
        """Count the calls of a method."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        setattr(owner, name, timed)


def cloudbrush(checkpoint: Path, _configs: Path, clock: Clock) -> Paint:
    """This engine, as the worker uses it."""
    from cloudbrush.domain.generation import Txt2Img
    from cloudbrush.engine import Broke, Done, Engine, ImageReady, ModelFile, Models

    engine = Engine(device="cpu")
    file = ModelFile("random", checkpoint, hashlib.sha256(checkpoint.name.encode()).hexdigest())
    from queue import Queue

    def paint(images: int, side: int, steps: int) -> None:
        generation = Txt2Img(
            prompt=PROMPT, checkpoint="random", sampler="Euler", steps=steps, width=side, height=side,
            batch_size=images, seed=1, vae=None,
        )  # fmt: skip
        events: Queue[Any] = Queue()
        engine.submit(generation, Models(checkpoint=file), events.put)
        painted = 0
        while not isinstance(event := events.get(), Done):
            if isinstance(event, Broke):
                raise event.error
            painted += isinstance(event, ImageReady)
        assert painted == images

    paint(1, 64, 1)
    with engine._studio.models.using(file) as loaded:  # the clock alone looks inside
        for part, method in ((loaded.checkpoint.unet, "forward"), (loaded.checkpoint.vae, "decode")):
            clock.watch(part, method)
    return paint


def diffusers(checkpoint: Path, configs: Path, clock: Clock) -> Paint:
    """diffusers' own pipeline with its Euler scheduler."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_single_file(
        str(checkpoint), config=str(configs), local_files_only=True, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    clock.watch(pipeline.unet, "forward")
    clock.watch(pipeline.vae, "decode")

    def paint(images: int, side: int, steps: int) -> None:
        generators = [torch.Generator().manual_seed(1 + index) for index in range(images)]
        result = pipeline(
            PROMPT, height=side, width=side, num_inference_steps=steps, guidance_scale=7.0,
            num_images_per_prompt=images, generator=generators,
        )  # fmt: skip
        assert len(result.images) == images

    return paint


CONTESTANTS = {"cloudbrush": cloudbrush, "diffusers": diffusers}


def peak_bytes() -> int:
    """The most memory this process ever held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def answering() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Answers go to the real standard output; what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def answer(what: dict[str, Any]) -> None:
            out.write(json.dumps(what) + "\n")
            out.flush()

        yield answer


def main() -> None:
    """`python -m benchmarks.contestants NAME CHECKPOINT CONFIGS`."""
    name, checkpoint, configs = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    clock = Clock()
    with answering() as answer:
        paint = CONTESTANTS[name](checkpoint, configs, clock)
        answer({"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            inside, started = clock.seconds, time.perf_counter()
            paint(asked["images"], asked["side"], asked["steps"])
            seconds = time.perf_counter() - started
            answer({"seconds": seconds, "inside": clock.seconds - inside, "peak": peak_bytes()})


if __name__ == "__main__":
    main()
