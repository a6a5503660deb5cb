"""The Output section: a job's picture, progress, prompt and parameters, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from cloudbrush.client import Client
from cloudbrush.domain.endpoint import THIS_MACHINE
from cloudbrush.domain.errors import CloudbrushError
from cloudbrush.domain.infotext import write
from cloudbrush.domain.invocation import ImageResult
from cloudbrush.domain.job import Job, JobState, Problem
from cloudbrush.studio.live import JobView
from cloudbrush.studio.telling import problem

EMPTY = '<div class="empty"><p>No image yet</p><p>Write a prompt and press Generate.</p></div>'
STATES = {
    JobState.QUEUED: "Waiting for a worker",
    JobState.RUNNING: "Painting",
    JobState.SUCCEEDED: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
    JobState.EXPIRED: "Expired",
    JobState.TIMED_OUT: "Timed out",
}


@dataclass(frozen=True)
class Sends:
    """Where the image shown can be led to."""

    to_txt2img: gr.Button
    to_img2img: gr.Button
    to_inpaint: gr.Button


@dataclass(frozen=True)
class Output:
    """The components that show the job whose id `inference_id` holds."""

    state: gr.HTML
    stage: gr.HTML
    gallery: gr.Gallery
    infotext: gr.Textbox
    cancel: gr.Button
    save: gr.DownloadButton
    delete: gr.Button

    @property
    def components(self) -> list[Any]:
        """The components, in the order of `Shown`."""
        return [getattr(self, field.name) for field in fields(self)]


def build_output() -> tuple[gr.Textbox, Output, Sends]:
    """The Inference ID, which says what is shown, everything that shows it, and where it can be sent."""
    with gr.Column(elem_id="txt2img_results", elem_classes="card", min_width=0):
        stage = gr.HTML(EMPTY, elem_id="txt2img_stage")
        gallery = gr.Gallery(
            elem_id="txt2img_gallery",
            show_label=False,
            visible=False,
            interactive=False,
            preview=True,
            object_fit="contain",
            buttons=["download", "download_all", "fullscreen"],
            format="png",
        )
        with gr.Row(elem_id="txt2img_actions"):
            state = gr.HTML("", elem_id="txt2img_state")
            small = {"size": "sm", "visible": False, "min_width": 0, "scale": 0}
            cancel = gr.Button("Cancel", elem_id="txt2img_cancel", **small)
            save = gr.DownloadButton("Save", elem_id="txt2img_save", **small)
            delete = gr.Button("Delete", elem_id="txt2img_delete", **small)
        with gr.Row(elem_id="txt2img_sends", elem_classes="actions"):
            gr.HTML("<p>Send to</p>")
            sends = Sends(
                *(
                    gr.Button(place, elem_id=f"txt2img_send_to_{place}", size="sm", min_width=0, scale=0)
                    for place in ("txt2img", "img2img", "inpaint")
                )
            )
        inference_id = gr.Textbox(
            label="Inference ID",
            elem_id="inference_id",
            interactive=False,
            placeholder="Given to each job when it is submitted",
            buttons=["copy"],
        )
        infotext = gr.Textbox(
            label="Prompt and parameters",
            elem_id="html_info_txt2img",
            interactive=False,
            lines=3,
            max_lines=10,
            placeholder="Appears with the image, and is saved inside it",
            buttons=["copy"],
        )
    return inference_id, Output(state, stage, gallery, infotext, cancel, save, delete), sends


Shown = dict[str, dict[str, Any]]  # what each component of Output shows, by name


def nothing(error: CloudbrushError | None = None) -> Shown:
    """Output without a job, or with the reason why it cannot be shown."""
    return {
        "state": {"value": ""},
        "stage": {"value": _alert(error) if error else EMPTY, "visible": True},
        "gallery": {"value": [], "visible": False},
        "infotext": {"value": ""},
        "cancel": {"visible": False},
        "save": {"value": None, "visible": False},
        "delete": {"visible": False},
    }


def render(view: JobView, paths: list[str], selected: int = 0) -> Shown:
    """Output for a job; `paths` are the files of those of its images that are painted."""
    generation = view.job.generation
    unfinished = not view.job.state.is_terminal
    painted = bool(paths)
    alt = generation.prompt or "Image without a prompt"
    return {
        "state": {"value": state_line(view)},
        "stage": {"value": stage(view, painted=painted), "visible": unfinished or not painted},
        "gallery": {"value": [(path, alt) for path in paths], "visible": painted},
        "infotext": {"value": infotext(view, selected)},
        "cancel": {"visible": unfinished},
        "save": {"value": paths[min(selected, len(paths) - 1)] if painted else None, "visible": painted},
        "delete": {"visible": not unfinished},
    }


def updates(shown: Shown) -> list[Any]:
    """What Gradio is told: always everything. Of messages that arrive together, only the last counts."""
    return [gr.update(**component) for component in shown.values()]


def state_line(view: JobView) -> str:
    """The job's state in words, with what people want to know next."""
    job = view.job
    text = STATES[job.state]
    if job.state is JobState.SUCCEEDED and job.started_at and job.finished_at:
        text += f" in {(job.finished_at - job.started_at).total_seconds():.1f} s"
    where = "on this machine" if job.endpoint == THIS_MACHINE else f"on {job.endpoint}"
    return f'<p class="state {job.state}"><b>{escape(text)}</b> <span>{escape(where)}</span></p>'


def stage(view: JobView, *, painted: bool) -> str:
    """What stands in place of the picture while there is none, and the progress bar."""
    job = view.job
    if job.problem:
        return _alert(job.problem)
    if job.state.is_terminal:
        return f'<div class="empty"><p>{escape(STATES[job.state])}</p><p>No image was painted.</p></div>'
    picture = ""
    if view.preview:
        alt = f"Preview: {escape(job.generation.prompt)}"
        picture = f'<img class="preview" src="{escape(view.preview)}" alt="{alt}">'
    elif not painted:
        hint = "Starts as soon as a worker is free." if job.state is JobState.QUEUED else "Getting ready."
        picture = f'<div class="empty"><p>{STATES[job.state]}</p><p>{hint}</p></div>'
    return picture + progress(view)


def _alert(error: CloudbrushError | Problem) -> str:
    return f'<div class="problem" role="alert">{problem(error)}</div>'


def progress(view: JobView) -> str:
    """The progress bar with its step in words; empty before the first step."""
    if not view.steps:
        return ""
    share = 100 * view.step / view.steps
    label = f"Step {view.step} of {view.steps}"
    return (
        f'<div class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="{view.steps}" '
        f'aria-valuenow="{view.step}" aria-label="{label}">'
        f'<div class="bar" style="width:{share:.1f}%"></div><span>{label}</span></div>'
    )


def infotext(view: JobView, selected: int) -> str:
    """What made the image that is selected, or will make the first one."""
    if not view.images:
        generation = view.job.generation
        return write(generation, seed=generation.seed, model_hash="")
    return view.images[min(selected, len(view.images) - 1)].infotext


async def fetch(client: Client, cache: str, job: Job, image: ImageResult) -> str:
    """The file of one image: its PNG bytes as they were painted, named as the WebUI names its files."""
    data = await client.image(job.id, image.index)
    return str(save_bytes_to_cache(data, f"{image.index:05}-{image.seed}.png", cache))
