"""The panel: entries, labels and filters in the guide's words."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from cloudbrush.domain.endpoint import THIS_MACHINE, EndpointState
from cloudbrush.domain.job import JobState
from cloudbrush.studio import cloud_panel
from cloudbrush.studio.cloud_panel import JobQuery
from tests import builders
from tests.studio.fake_client import FakeClient, endpoint

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def test_an_endpoint_reads_name_status_time() -> None:
    label = cloud_panel.endpoint_label(endpoint("pocket", EndpointState.CREATING))
    assert re.fullmatch(rf"pocket\+Creating\+{TIME}", label)


def test_a_job_reads_time_type_status_uuid() -> None:
    job = builders.job()
    assert re.fullmatch(rf"{TIME}-->txt2img-->queued-->{job.id}", cloud_panel.job_label(job))


async def test_this_machine_is_not_an_endpoint_to_choose(client: FakeClient) -> None:
    listed = await cloud_panel.listed_endpoints(client)  # type: ignore[arg-type]
    assert [found.name for found in listed] == ["pocket"]
    choices = cloud_panel.endpoint_choices(listed, cloud_panel.NO_ENDPOINT)
    assert choices[0] == ("None: paint on this machine", cloud_panel.NO_ENDPOINT)
    assert THIS_MACHINE not in dict(choices).values()


@pytest.mark.parametrize("state", EndpointState)
def test_only_an_endpoint_that_takes_jobs_generates_on_cloud(state: EndpointState) -> None:
    _, note, *labels = cloud_panel.endpoint_updates([endpoint("pocket", state)], "pocket")
    takes_jobs = state in (EndpointState.IN_SERVICE, EndpointState.UPDATING)
    assert labels == ["Generate on Cloud" if takes_jobs else "Generate"] * 2  # of txt2img and img2img
    assert bool(note) == (state is not EndpointState.IN_SERVICE)


def test_a_chosen_endpoint_that_is_gone_stays_chosen_so_that_nothing_runs_elsewhere() -> None:
    dropdown, note, label, _ = cloud_panel.endpoint_updates([endpoint("other")], "pocket")
    assert ("pocket+Deleted", "pocket") in dropdown["choices"]
    assert "value" not in dropdown
    assert label == "Generate"
    assert "no longer there" in note


def test_without_any_endpoint_the_note_says_what_generate_does() -> None:
    assert "this machine" in cloud_panel.endpoint_updates([], cloud_panel.NO_ENDPOINT)[1]


async def test_ten_jobs_are_listed_and_all_on_request(client: FakeClient) -> None:
    for _ in range(205):
        await client.add(builders.job())
    latest = await cloud_panel.find_jobs(client, JobQuery())  # type: ignore[arg-type]
    everything = await cloud_panel.find_jobs(client, JobQuery(show_all=True))  # type: ignore[arg-type]
    assert len(latest) == 10
    assert len(everything) == len({job.id for job in everything}) == 205
    assert everything[:10] == latest
    assert everything == sorted(everything, key=lambda job: job.created_at, reverse=True)


def test_the_advanced_filters_become_what_is_asked_for() -> None:
    day = datetime(2026, 11, 23)
    query = JobQuery(
        advanced=True, task="txt2img", states=["failed"], endpoint="pocket", checkpoint="", start=day, end=day
    )
    assert query.asked() == {
        "states": [JobState.FAILED],
        "task": "txt2img",
        "endpoint": "pocket",
        "created_from": day.astimezone(),
        "created_before": (day + timedelta(days=1)).astimezone(),
    }


def test_hidden_filters_filter_nothing() -> None:
    assert JobQuery(advanced=False, task="txt2img", states=["failed"]).asked() == {}


def test_an_empty_list_says_what_to_do() -> None:
    def first_entry(query: JobQuery) -> str:
        return str(cloud_panel.job_list([], query, shown="")["choices"][0][0])

    assert "Generate makes the first" in first_entry(JobQuery())
    assert "filter" in first_entry(JobQuery(advanced=True, task="txt2img"))


def test_the_job_that_output_shows_is_chosen_if_it_is_listed() -> None:
    job = builders.job()
    assert cloud_panel.job_list([job], JobQuery(), job.id)["value"] == job.id
    assert cloud_panel.job_list([job], JobQuery(), "elsewhere")["value"] == cloud_panel.NO_JOB
