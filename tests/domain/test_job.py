"""The states of a job and the moves between them."""

from __future__ import annotations

import pytest

from cloudbrush.domain.errors import Conflict
from cloudbrush.domain.job import MAX_ATTEMPTS, MOVES, JobState, Problem
from tests import builders
from tests.builders import START

LOST = Problem(code="worker_lost", detail="it died")


@pytest.mark.parametrize("state", JobState)
def test_terminal_states_are_those_without_moves(state: JobState) -> None:
    assert state.is_terminal == (MOVES[state] == frozenset())


def test_every_move_that_is_not_in_the_table_is_refused() -> None:
    for state in JobState:
        for to in set(JobState) - MOVES[state] - {JobState.RUNNING, JobState.QUEUED}:
            with pytest.raises(Conflict, match=f"{state} cannot become {to}"):
                builders.job(state=state).ended(to, START)


def test_an_attempt_starts_a_new_epoch_without_the_images_of_the_last() -> None:
    job = builders.job(images=(builders.image("x"),), epoch=1)
    claimed = job.claimed(START, START)
    assert (claimed.state, claimed.epoch, claimed.images) == (JobState.RUNNING, 2, ())


def test_the_last_lost_attempt_fails_the_job_with_every_reason() -> None:
    job = builders.job()
    for number in range(1, MAX_ATTEMPTS + 1):
        assert job.state is JobState.QUEUED
        reason = LOST.model_copy(update={"detail": f"reason {number}"})
        job = job.claimed(START, START).attempt_lost(START, reason)
    assert job.state is JobState.FAILED
    assert job.problem is not None
    assert all(f"reason {number}" in job.problem.detail for number in range(1, MAX_ATTEMPTS + 1))


def test_a_handle_is_of_one_attempt_and_never_shown() -> None:
    running = builders.job().claimed(START, START).model_copy(update={"handle": "s3://bucket/secret"})
    assert "secret" not in f"{running!r}{running.model_dump_json()}"
    assert running.released().handle is None
    assert running.ended(JobState.CANCELLED, START).handle is None


def test_being_given_back_does_not_count_as_a_lost_attempt() -> None:
    job = builders.job()
    for _ in range(MAX_ATTEMPTS + 1):
        job = job.claimed(START, START).released()
    assert (job.state, job.lost_attempts) == (JobState.QUEUED, ())
