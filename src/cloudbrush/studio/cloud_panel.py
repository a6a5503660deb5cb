"""The *Amazon SageMaker Inference* panel: where to paint, and the jobs there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from html import escape
from typing import Any

import gradio as gr

from cloudbrush.client import Client
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.endpoint import THIS_MACHINE, Endpoint, EndpointState
from cloudbrush.domain.job import Job, JobState
from cloudbrush.studio.theme import tool

TITLE = "Amazon SageMaker Inference"
NO_ENDPOINT = ""  # the value of the dropdown's first entry
NO_JOB = ""
ANY = ""
LATEST = 10  # jobs listed unless all are shown
TASKS = ("txt2img", "img2img")
PAGE = 100  # jobs asked for at a time when all are shown
ENDPOINT_LOOK = 2.0  # seconds between looks while an endpoint is changing; nothing announces them yet
MOVING = frozenset({EndpointState.CREATING, EndpointState.UPDATING, EndpointState.DELETING})


@dataclass(frozen=True)
class Filters:
    """Which jobs to list."""

    show_all: gr.Checkbox
    advanced: gr.Checkbox
    task: gr.Dropdown
    states: gr.Dropdown
    endpoint: gr.Dropdown
    checkpoint: gr.Dropdown
    start: gr.DateTime
    end: gr.DateTime

    @property
    def components(self) -> list[Any]:
        """The components, in the order of `JobQuery`."""
        return [getattr(self, field.name) for field in fields(self)]

    @property
    def advanced_components(self) -> list[Any]:
        """Those that only the advanced filter shows."""
        return self.components[2:]


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to list, as the filters say; without the advanced ones, theirs are ignored."""

    show_all: bool = False
    advanced: bool = False
    task: str = ANY
    states: Sequence[str] = ()
    endpoint: str = ANY
    checkpoint: str = ANY
    start: datetime | None = None
    end: datetime | None = None  # the last day that counts

    def asked(self) -> dict[str, Any]:
        """The filters in the words of `Client.jobs`."""
        if not self.advanced:
            return {}
        asked: dict[str, Any] = {
            "states": [JobState(state) for state in self.states or ()],
            "task": self.task,
            "endpoint": self.endpoint,
            "checkpoint": self.checkpoint,
            "created_from": self.start and self.start.astimezone(),
            "created_before": self.end and (self.end + timedelta(days=1)).astimezone(),
        }
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True)
class Panel:
    """The components of the panel."""

    endpoint: gr.Dropdown
    refresh_endpoints: gr.Button
    note: gr.HTML
    jobs: gr.Dropdown
    refresh_jobs: gr.Button
    filters: Filters
    filter_row: gr.Column


def build_panel() -> Panel:
    """The panel, below the native parameters."""
    with gr.Column(elem_id="cloud_panel", elem_classes="card", min_width=0):
        gr.HTML(f"<h2>{TITLE}</h2>", elem_id="cloud_title")
        with gr.Row(elem_classes="with-tools"):
            endpoint = gr.Dropdown(
                [("None: paint on this machine", NO_ENDPOINT)],
                label="Select Cloud SageMaker Endpoint",
                elem_id="cloud_endpoint",
                min_width=0,
            )
            refresh_endpoints = tool("↻", "cloud_endpoint_refresh")
        note = gr.HTML("", elem_id="cloud_endpoint_note")
        with gr.Row(elem_classes="with-tools"):
            jobs = gr.Dropdown(
                [("No job chosen", NO_JOB)],
                label="Inference Job: Time-Type-Status-Uuid",
                elem_id="cloud_jobs",
                min_width=0,
            )
            refresh_jobs = tool("↻", "cloud_jobs_refresh")
        with gr.Row(elem_id="cloud_checks"):
            show_all = gr.Checkbox(
                label="Show All", elem_id="cloud_show_all", container=False, min_width=0, scale=0
            )
            advanced = gr.Checkbox(
                label="Advanced Inference Job filter",
                elem_id="cloud_advanced",
                container=False,
                min_width=0,
                scale=0,
            )
        filter_row, filters = _build_filters(show_all, advanced)
    return Panel(endpoint, refresh_endpoints, note, jobs, refresh_jobs, filters, filter_row)


def _build_filters(show_all: gr.Checkbox, advanced: gr.Checkbox) -> tuple[gr.Column, Filters]:
    def choice(label: str, elem_id: str, choices: list[tuple[str, str]]) -> gr.Dropdown:
        return gr.Dropdown(choices, value=ANY, label=label, elem_id=elem_id, min_width=0)

    def day(label: str, elem_id: str) -> gr.DateTime:
        return gr.DateTime(label=label, elem_id=elem_id, include_time=False, type="datetime", min_width=0)

    with gr.Column(visible=False, elem_id="cloud_filters", min_width=0) as column:
        with gr.Row(elem_classes="fields thirds"):
            task = choice("Task Type", "cloud_filter_task", [("Any", ANY), *((task, task) for task in TASKS)])
            endpoint = choice("SageMaker Endpoint", "cloud_filter_endpoint", [("Any", ANY)])
            checkpoint = choice("Checkpoint", "cloud_filter_checkpoint", [("Any", ANY)])
        with gr.Row(elem_classes="fields thirds"):
            states = gr.Dropdown(
                [(state.value.replace("_", " "), state.value) for state in JobState],
                multiselect=True,
                label="Status",
                elem_id="cloud_filter_status",
                min_width=0,
            )
            start = day("Start date", "cloud_filter_start")
            end = day("End date", "cloud_filter_end")
    return column, Filters(show_all, advanced, task, states, endpoint, checkpoint, start, end)


def local_time(at: datetime) -> str:
    """A moment as people read it, in the time zone of the machine the studio runs on."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def endpoint_label(endpoint: Endpoint) -> str:
    """An endpoint as name+status+time, the time being that of its last change of state."""
    return f"{endpoint.name}+{endpoint.state}+{local_time(endpoint.changed_at)}"


def job_label(job: Job) -> str:
    """A job as Time-Type-Status-Uuid."""
    return "-->".join((local_time(job.created_at), job.generation.task, job.state, job.id))


def endpoint_choices(endpoints: Sequence[Endpoint], chosen: str) -> list[tuple[str, str]]:
    """The entries of the endpoint dropdown; the first means none.

    A chosen endpoint that is gone stays in the list: the next Generate must be refused, not run elsewhere.
    """
    choices = [("None: paint on this machine", NO_ENDPOINT)]
    choices += [(endpoint_label(endpoint), endpoint.name) for endpoint in endpoints]
    if chosen not in (value for _, value in choices):
        choices.append((f"{chosen}+Deleted", chosen))
    return choices


def endpoint_updates(endpoints: Sequence[Endpoint], chosen: str) -> list[Any]:
    """Endpoint dropdown, note and the Generate buttons when `chosen` is chosen.

    The dropdown is only told its entries: its value is the person's, who may have chosen again meanwhile.
    """
    now = next((endpoint for endpoint in endpoints if endpoint.name == chosen), None)
    dropdown = gr.update(choices=endpoint_choices(endpoints, chosen))
    label = generate_label(now)
    return [dropdown, endpoint_note(endpoints, chosen, now), label, label]


async def listed_endpoints(client: Client) -> list[Endpoint]:
    """The endpoints a person can choose, newest first."""
    return [endpoint for endpoint in await client.endpoints() if endpoint.name != THIS_MACHINE]


def generate_label(endpoint: Endpoint | None) -> str:
    """What the main button says when `endpoint` is chosen."""
    return "Generate on Cloud" if endpoint is not None and endpoint.state.takes_jobs else "Generate"


TOLD = {
    EndpointState.CREATING: "is starting and takes jobs as soon as it is InService",
    EndpointState.UPDATING: "gets more or fewer instances; it takes jobs meanwhile",
    EndpointState.DELETING: "is going away: choose another",
    EndpointState.FAILED: "could not be brought up: choose another",
}


def endpoint_note(endpoints: Sequence[Endpoint], chosen: str, now: Endpoint | None) -> str:
    """What a person should know of the choice; empty when all is well."""
    if chosen == NO_ENDPOINT:
        return "" if endpoints else "<p>No endpoint is deployed yet. Generate paints on this machine.</p>"
    if now is None:
        return f"<p><b>{escape(chosen)}</b> is no longer there: choose another.</p>"
    if now.state is EndpointState.IN_SERVICE:
        return ""
    return f"<p><b>{escape(chosen)}</b> {TOLD[now.state]}.</p>"


async def find_jobs(client: Client, query: JobQuery) -> list[Job]:
    """My jobs, newest first: the latest few, or all."""
    asked = query.asked()
    if not query.show_all:
        return list((await client.jobs(limit=LATEST, **asked)).jobs)
    found: list[Job] = []
    cursor = None
    while True:
        page = await client.jobs(limit=PAGE, cursor=cursor, **asked)
        found += page.jobs
        cursor = page.cursor
        if cursor is None:
            return found


def job_list(jobs: Sequence[Job], query: JobQuery, shown: str) -> dict[str, Any]:
    """The job dropdown: its first entry means none; the job that Output shows is chosen if listed."""
    first = "No job chosen"
    if not jobs:
        first = "No job matches the filter" if query.asked() else "No job yet: Generate makes the first"
    choices = [(first, NO_JOB), *((job_label(job), job.id) for job in jobs)]
    return {"choices": choices, "value": shown if any(job.id == shown for job in jobs) else NO_JOB}


async def filter_choices(client: Client) -> tuple[Any, Any]:
    """The endpoints and checkpoints jobs can be filtered by."""
    places = [("Any", ANY), ("This machine", THIS_MACHINE)]
    places += [(endpoint.name, endpoint.name) for endpoint in await listed_endpoints(client)]
    models = [
        ("Any", ANY),
        *((asset.shown_name, asset.name) for asset in await client.models(AssetKind.CHECKPOINT)),
    ]
    return gr.update(choices=places, value=ANY), gr.update(choices=models, value=ANY)
