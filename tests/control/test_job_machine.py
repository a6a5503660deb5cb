"""The job table as a state machine: whatever happens in whatever order, its promises hold."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from cloudbrush.domain.errors import NotFound, Stale
from cloudbrush.domain.job import MAX_ATTEMPTS, EventKind, Job, JobState, Problem
from cloudbrush.stores.database import Database
from cloudbrush.stores.sql import SqlEvents, SqlJobs, SqlQueue
from tests import builders
from tests.builders import START

LEASE = timedelta(seconds=30)
LOST = Problem(code="worker_lost", detail="it died")


class JobMachine(RuleBasedStateMachine):
    """Submits, claims, crashes, results, cancels and sweeps, by several workers with old copies in hand."""

    attempts = Bundle("attempts")  # jobs as a worker last saw them, perhaps long ago

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(f"sqlite:///{Path(self.folder.name) / 'machine.db'}")
        self.jobs = SqlJobs(self.database)
        self.events = SqlEvents(self.database)
        self.queue = SqlQueue(self.database)
        self.now = START
        self.accepted: dict[str, Job] = {}
        self.results: dict[str, Job] = {}  # the first terminal state seen of each job

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @rule(owner=st.sampled_from(["ann", "bob", "cat"]))
    def submit(self, owner: str) -> None:
        job = self.jobs.add(builders.job(owner=owner, created_at=self.now), (EventKind.QUEUED, {}))
        self.accepted[job.id] = job

    @rule(target=attempts)
    def claim(self) -> Job | None:
        return self.queue.claim("pocket", self.now, self.now + LEASE, lambda heads: heads[0])

    @rule(attempt=attempts)
    def renew(self, attempt: Job | None) -> None:
        if attempt:
            renewed = self.queue.renew(attempt.id, attempt.epoch, self.now + LEASE)
            current = self.jobs.get(attempt.id)
            assert renewed == (current.state is JobState.RUNNING and current.epoch == attempt.epoch)

    @rule(attempt=attempts)
    def report_progress(self, attempt: Job | None) -> None:
        if attempt:
            self.events.append(attempt.id, attempt.epoch, (EventKind.PROGRESS, {"step": 1}), self.now)

    @rule(attempt=attempts)
    def finish(self, attempt: Job | None) -> None:
        if attempt:
            images = (builders.image(attempt.id, attempt.epoch),)
            self.change(attempt.succeeded(self.now, images), EventKind.FINISHED)

    @rule(attempt=attempts)
    def fail(self, attempt: Job | None) -> None:
        if attempt:
            self.change(attempt.ended(JobState.FAILED, self.now, problem=LOST), EventKind.FINISHED)

    @rule(attempt=attempts)
    def crash(self, attempt: Job | None) -> None:
        if attempt:
            lost = attempt.attempt_lost(self.now, LOST)
            self.change(lost, EventKind.FINISHED if lost.state.is_terminal else EventKind.QUEUED)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.accepted:
            job = self.jobs.get(data.draw(st.sampled_from(sorted(self.accepted))))
            if not job.state.is_terminal:
                self.change(job.ended(JobState.CANCELLED, self.now), EventKind.FINISHED)

    @rule(seconds=st.sampled_from([1, 20, 40]))
    def sweep_later(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for job in self.queue.overdue(self.now, queued_before=self.now - timedelta(minutes=5)):
            if job.state is JobState.QUEUED:
                self.change(job.ended(JobState.EXPIRED, self.now), EventKind.FINISHED)
            else:
                lost = job.attempt_lost(self.now, LOST)
                self.change(lost, EventKind.FINISHED if lost.state.is_terminal else EventKind.QUEUED)

    def change(self, job: Job, kind: EventKind) -> None:
        try:
            self.jobs.change(job, (kind, {}), at=self.now)
        except (Stale, NotFound):
            return

    @invariant()
    def no_accepted_job_is_lost_and_ends_are_final(self) -> None:
        for job_id in getattr(self, "accepted", {}):
            job = self.jobs.get(job_id)
            assert len(job.lost_attempts) <= MAX_ATTEMPTS
            if job_id in self.results:
                assert job == self.results[job_id], "a terminal state changed"
            elif job.state.is_terminal:
                self.results[job_id] = job

    @invariant()
    def the_event_history_agrees_with_the_state(self) -> None:
        for job_id in getattr(self, "accepted", {}):
            job, events = self.jobs.get(job_id), self.events.after(job_id, 0)
            kinds = [event.kind for event in events]
            assert [event.seq for event in events] == sorted({event.seq for event in events})
            assert kinds.count(EventKind.FINISHED) == int(job.state.is_terminal)
            assert kinds.count(EventKind.STARTED) == job.epoch
            assert kinds.count(EventKind.PROGRESS) <= 1

    @invariant()
    def images_belong_to_the_attempt_that_counts(self) -> None:
        for job_id in getattr(self, "accepted", {}):
            job = self.jobs.get(job_id)
            assert all(image.key.startswith(f"jobs/{job.id}/{job.epoch}/") for image in job.images)


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
