"""Output: what is shown of a job in each of its states."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloudbrush.domain.endpoint import THIS_MACHINE
from cloudbrush.domain.errors import EndpointNotReady
from cloudbrush.domain.job import JobState, Problem
from cloudbrush.studio import output
from cloudbrush.studio.live import JobView
from cloudbrush.studio.telling import problem
from tests import builders
from tests.builders import START


def running(**changes: object) -> JobView:
    job = builders.job().claimed(START, START)
    return JobView(job=job, **changes)  # type: ignore[arg-type]


def test_every_state_has_its_words() -> None:
    assert set(output.STATES) == set(JobState)


def test_a_running_job_shows_step_and_preview_and_can_be_cancelled() -> None:
    shown = output.render(running(step=5, steps=20, preview="data:image/jpeg;base64,AA"), [])
    assert "Step 5 of 20" in shown["stage"]["value"]
    assert 'aria-valuenow="5"' in shown["stage"]["value"]
    assert 'src="data:image/jpeg;base64,AA"' in shown["stage"]["value"]
    assert shown["cancel"]["visible"]
    assert not shown["delete"]["visible"]
    assert not shown["gallery"]["visible"]


def test_a_finished_job_shows_images_with_the_prompt_as_alternative_text() -> None:
    job = builders.job().claimed(START, START)
    job = job.succeeded(START + timedelta(seconds=2.5), (builders.image(job.id),))
    shown = output.render(JobView.of(job), ["/cache/1.png"])
    assert shown["gallery"]["value"] == [("/cache/1.png", "a red circle")]
    assert shown["infotext"]["value"] == job.images[0].infotext
    assert shown["save"] == {"value": "/cache/1.png", "visible": True}
    assert not shown["stage"]["visible"]
    assert "Done in 2.5 s" in shown["state"]["value"]
    assert "on pocket" in shown["state"]["value"]


def test_a_failed_job_says_why_and_what_to_do() -> None:
    problem = Problem(code="model_file", detail="the file is <cut off>", hint="Download it again.")
    job = builders.job().claimed(START, START).ended(JobState.FAILED, START, problem=problem)
    shown = output.render(JobView.of(job), [])
    assert "The file is &lt;cut off&gt;." in shown["stage"]["value"]
    assert "Download it again." in shown["stage"]["value"]
    assert shown["delete"]["visible"]
    assert shown["infotext"]["value"].startswith("a red circle\nSteps: 20, Sampler: DPM++ 2M")


def test_what_people_write_is_never_markup() -> None:
    nasty = '<img src=x onerror="alert(1)">'
    job = builders.job(generation=builders.generation(prompt=nasty), endpoint=THIS_MACHINE)
    view = JobView(job=job, preview='data:"><script>')
    assert "<img src=x" not in output.stage(view, painted=False)
    assert "<script>" not in output.stage(view, painted=False)
    assert "<b>" not in problem(EndpointNotReady("<b>")).removeprefix("<p><b>").split("</b>")[0]


def test_every_message_tells_everything() -> None:
    """Gradio's page applies messages that arrive together as if only the last one had come."""
    for view in (running(step=1, steps=20), running()):
        updates = output.updates(output.render(view, []))
        assert len(updates) == len(output.nothing())
        assert all("value" in update or "visible" in update for update in updates)


def test_infotext_and_file_are_those_of_the_selected_image() -> None:
    job = builders.job()
    images = tuple(
        builders.image(job.id, index=index).model_copy(update={"infotext": f"image {index}"})
        for index in range(2)
    )
    shown = output.render(JobView(job=job, images=images), ["/0.png", "/1.png"], selected=1)
    assert (shown["infotext"]["value"], shown["save"]["value"]) == ("image 1", "/1.png")


@pytest.mark.parametrize("paths", [[], ["/cache/1.png"]])
def test_an_empty_output_answers_for_the_same_components(paths: list[str]) -> None:
    assert list(output.nothing()) == list(output.render(running(), paths))
