"""Whole runs: images, events, batches, neighbours, cancelling."""

from __future__ import annotations

import io
import random
import threading

import numpy as np
import pytest
from PIL import Image

from cloudbrush.domain import infotext
from cloudbrush.domain.errors import GenerationFailed
from cloudbrush.domain.sampling import SAMPLERS, SCHEDULES
from cloudbrush.engine import Broke, Cancelled, Done, Engine, ImageReady, ModelFile, Models, StepTaken
from tests.engine.listening import Listener, StopAt, generation


def test_a_run_tells_steps_then_images_then_done(paint) -> None:
    (listener,) = paint(generation(steps=4))
    assert [type(event) for event in listener.events] == [StepTaken] * 4 + [ImageReady, Done]
    assert [(event.step, event.steps) for event in listener.steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(listener.events[-1].seconds) == {"load", "encode", "denoise", "decode"}


def test_the_first_step_comes_with_a_small_preview(paint) -> None:
    (listener,) = paint(generation(width=64, height=128))
    preview = Image.open(io.BytesIO(listener.steps[0].preview))
    assert preview.format == "JPEG"
    assert preview.size == (128, 256)


def test_the_png_carries_what_painted_it(paint, tiny: ModelFile) -> None:
    asked = generation(prompt="a cät", negative_prompt="dog", seed=7, sampler="Euler a", width=128)
    (listener,) = paint(asked)
    (ready,) = listener.images
    image = Image.open(io.BytesIO(ready.png))
    assert image.text["parameters"] == ready.infotext
    assert (image.size, ready.width, ready.height, ready.seed) == ((128, 64), 128, 64, 7)
    assert f"Model hash: {tiny.sha256[:10]}" in ready.infotext
    read = infotext.to_generation_fields(infotext.parse(ready.infotext))
    assert asked.model_validate(read) == asked


def test_batches_follow_each_other_with_following_seeds(paint) -> None:
    (listener,) = paint(generation(batch_count=2, batch_size=2, seed=10, steps=2))
    assert [image.seed for image in listener.images] == [10, 11, 12, 13]
    assert [event.step for event in listener.steps] == [1, 2, 3, 4]
    assert {event.steps for event in listener.steps} == {4}


@pytest.mark.parametrize("sampler", [sampler.name for sampler in SAMPLERS])
def test_a_batch_equals_its_images_painted_alone(paint, sampler: str) -> None:
    (batch,) = paint(generation(batch_size=2, seed=5, sampler=sampler))
    alone = [paint(generation(seed=5 + k, sampler=sampler))[0].pixels[0] for k in range(2)]
    assert np.abs(batch.pixels - np.stack(alone)).max() <= 1


@pytest.mark.parametrize("sampler", [sampler.name for sampler in SAMPLERS])
def test_every_sampler_tells_every_step_in_order(paint, sampler: str) -> None:
    (listener,) = paint(generation(sampler=sampler, steps=20))
    told = [event.step for event in listener.steps]
    assert told == sorted(set(told))
    assert told[-1] == 20
    assert listener.images


@pytest.mark.parametrize("schedule", [schedule.name for schedule in SCHEDULES])
def test_every_schedule_paints(paint, schedule: str) -> None:
    (listener,) = paint(generation(schedule=schedule, steps=5))
    assert listener.images


def test_different_jobs_painted_together_equal_each_alone(paint) -> None:
    jobs = [
        generation(prompt="a cat", steps=5),
        generation(prompt="a dog " * 60, sampler="Euler a", cfg_scale=3, seed=2),
        generation(prompt="(bird:1.4)", negative_prompt="x " * 80, schedule="Karras", steps=7, batch_size=2),
        generation(width=128, sampler="Euler", noise_source="CPU"),
    ]
    together = paint(*jobs)
    for job, listener in zip(jobs, together, strict=True):
        assert np.abs(listener.pixels - paint(job)[0].pixels).max() <= 1


def test_prompt_seed_and_source_each_change_the_image(paint) -> None:
    base = {"steps": 4}
    variants = [base, {"prompt": "a dog"}, {"negative_prompt": "x"}, {"seed": 2}, {"noise_source": "CPU"}]
    images = [listener.pixels for listener in paint(*(generation(**{**base, **v}) for v in variants))]
    for position, image in enumerate(images):
        for other in images[position + 1 :]:
            assert (image != other).any()


def test_the_same_generation_is_the_same_image(paint) -> None:
    (first,), (second,) = paint(generation()), paint(generation())
    assert first.images[0].png == second.images[0].png


def test_cancel_takes_effect_before_the_next_step(engine: Engine, tiny: ModelFile, paint) -> None:
    listener = StopAt(engine, step=3)
    listener.handle = engine.submit(generation(steps=150), Models(tiny), listener)
    listener.submitted.set()
    listener.wait()
    assert [event.step for event in listener.steps] == [1, 2, 3]
    assert isinstance(listener.events[-1], Broke)
    assert isinstance(listener.events[-1].error, Cancelled)
    assert listener.events[-1].error.code == "cancelled"
    paint(generation())  # the engine goes on


def test_a_cancelled_neighbour_changes_nothing(engine: Engine, tiny: ModelFile, paint) -> None:
    listener = StopAt(engine, step=2)
    listener.handle = engine.submit(generation(steps=150, seed=3), Models(tiny), listener)
    listener.submitted.set()
    (other,) = paint(generation(steps=12))
    listener.wait()
    assert np.abs(other.pixels - paint(generation(steps=12))[0].pixels).max() <= 1


def test_cancelling_a_finished_run_does_nothing(engine: Engine, tiny: ModelFile) -> None:
    listener = Listener()
    handle = engine.submit(generation(), Models(tiny), listener)
    listener.wait()
    engine.cancel(handle)
    assert isinstance(listener.events[-1], Done)


def test_a_file_that_is_not_there_breaks_the_run_only(engine: Engine, tiny: ModelFile, paint) -> None:
    listener = Listener()
    engine.submit(generation(), Models(ModelFile("gone", tiny.path.with_name("gone"), "0" * 64)), listener)
    error = listener.wait().error
    assert error.code == "model_file"
    paint(generation())


def test_a_listener_that_raises_does_not_stop_the_engine(engine: Engine, tiny: ModelFile, paint) -> None:
    ended = threading.Event()

    def listener(event) -> None:
        if isinstance(event, Done):
            ended.set()
        raise RuntimeError("the listener's own fault")

    engine.submit(generation(), Models(tiny), listener)
    assert ended.wait(60)
    paint(generation())


def test_a_closed_engine_ends_its_runs_and_takes_no_more(tiny: ModelFile) -> None:
    engine = Engine(device="cpu")
    listener = Listener()
    engine.submit(generation(steps=150, batch_count=50), Models(tiny), listener)
    listener.wait(StepTaken)
    engine.close()
    assert isinstance(listener.events[-1], Broke)
    with pytest.raises(GenerationFailed):
        engine.submit(generation(), Models(tiny), Listener())


def test_many_jobs_with_random_cancels_each_end_exactly_once(engine: Engine, tiny: ModelFile) -> None:
    """A crowd of different jobs, a third of them called off at some time: no job is lost or ends twice."""
    chance = random.Random(20)
    listeners = []
    for seed in range(36):
        listener = Listener()
        asked = generation(
            seed=seed,
            steps=chance.randint(1, 12),
            batch_size=chance.randint(1, 2),
            width=chance.choice([64, 128]),
            sampler=chance.choice(["Euler", "Euler a", "DPM++ 2M", "Heun", "DPM++ 2M SDE", "DDIM"]),
            prompt=chance.choice(["a cat", "[a|b]", "a AND b", "x " * 80]),
        )
        handle = engine.submit(asked, Models(tiny), listener)
        listeners.append((asked, handle, listener))
    for _, handle, listener in chance.sample(listeners, 12):
        if chance.random() < 0.5:
            listener.wait(StepTaken | Done | Broke)
        engine.cancel(handle)
    for asked, _, listener in listeners:
        end = listener.wait()
        ends = [event for event in listener.events if isinstance(event, Done | Broke)]
        assert ends == [end] == listener.events[-1:]
        if isinstance(end, Done):
            assert len(listener.images) == asked.image_count
        else:
            assert isinstance(end.error, Cancelled)
