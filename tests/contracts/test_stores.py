"""What every record store must do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec, EndpointState
from cloudbrush.domain.errors import Conflict, IdempotencyMismatch, InvalidInput, NotFound, Stale
from cloudbrush.domain.job import EventKind, Job, JobState, Problem
from cloudbrush.stores.base import AssetSource, IdempotencyKey, JobFilter, Stores
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.database import Database
from cloudbrush.stores.sql import SqlAssets, SqlEndpoints, SqlEvents, SqlJobs, SqlQueue, SqlRequests
from tests import builders, postgres_server
from tests.builders import START

QUEUED = (EventKind.QUEUED, {})
LEASE = timedelta(seconds=30)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return postgres_server.new_database(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def stores(database: Database) -> Stores:
    return stores_of(database)


@pytest.fixture
def others(url: str) -> Iterator[Stores]:
    """The stores of a second control plane on the same database."""
    opened = Database(url)
    yield stores_of(opened)
    opened.close()


def stores_of(database: Database) -> Stores:
    return Stores(
        jobs=SqlJobs(database),
        requests=SqlRequests(database),
        events=SqlEvents(database),
        queue=SqlQueue(database),
        endpoints=SqlEndpoints(database),
        assets=SqlAssets(database),
        blobs=Blobs("memory:///"),
    )


def first(heads: list[Job]) -> Job:
    return heads[0]


def claim(stores: Stores, endpoint: str = "pocket") -> Job | None:
    return stores.queue.claim(endpoint, START, START + LEASE, first)


class TestJobs:
    def test_a_job_comes_back_as_it_was_stored(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        assert stores.jobs.get(job.id) == job

    def test_every_fact_of_a_finished_job_is_kept(self, stores: Stores) -> None:
        stores.jobs.add(builders.job(), QUEUED)
        running = claim(stores)
        assert running is not None
        lost = running.attempt_lost(START, Problem(code="worker_lost", detail="it died"))
        stores.jobs.change(lost, QUEUED, at=START)
        again = claim(stores)
        assert again is not None
        done = again.succeeded(START, (builders.image(again.id, epoch=2),))
        stored = stores.jobs.change(done, (EventKind.FINISHED, {}), at=START)
        assert stores.jobs.get(done.id) == stored
        assert stored.model_copy(update={"version": 0}) == done.model_copy(update={"version": 0})

    def test_an_unknown_job_is_not_found(self, stores: Stores) -> None:
        with pytest.raises(NotFound):
            stores.jobs.get("nothing")

    def test_lists_are_newest_first_and_page_without_gaps(self, stores: Stores) -> None:
        ids = [stores.jobs.add(builders.job(), QUEUED).id for _ in range(5)]
        seen, cursor = [], None
        for size in (2, 2, 1):
            page = stores.jobs.find(JobFilter(), limit=2, cursor=cursor)
            assert len(page.jobs) == size
            seen += [job.id for job in page.jobs]
            cursor = page.cursor
        assert cursor is None
        assert seen == ids[::-1]

    def test_filters_narrow_the_list(self, stores: Stores) -> None:
        wanted = builders.job(owner="bob", endpoint="far", created_at=START + timedelta(days=1))
        other = builders.job(generation=builders.generation(checkpoint="other"))
        for job in (wanted, other):
            stores.jobs.add(job, QUEUED)
        for which in (
            JobFilter(owner="bob"),
            JobFilter(endpoint="far"),
            JobFilter(checkpoint="pocket"),
            JobFilter(created_from=START + timedelta(hours=1)),
            JobFilter(owner="bob", states={JobState.QUEUED}, task="txt2img"),
        ):
            assert [job.id for job in stores.jobs.find(which, limit=9).jobs] == [wanted.id], which
        before = JobFilter(created_before=START + timedelta(hours=1))
        assert [job.id for job in stores.jobs.find(before, limit=9).jobs] == [other.id]
        assert stores.jobs.find(JobFilter(states={JobState.FAILED}), limit=9).jobs == ()

    def test_who_changes_second_is_told_so(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        cancelled = job.ended(JobState.CANCELLED, START)
        stores.jobs.change(cancelled, at=START)
        with pytest.raises(Stale):
            stores.jobs.change(cancelled, at=START)

    def test_a_failed_change_leaves_no_event(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        stale = job.model_copy(update={"version": 7})
        with pytest.raises(Stale):
            stores.jobs.change(stale, (EventKind.FINISHED, {}), at=START)
        assert [event.kind for event in stores.events.after(job.id, 0)] == [EventKind.QUEUED]

    def test_a_deleted_job_is_gone_with_its_events(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED, IdempotencyKey("k", "d"))
        stores.jobs.delete(job.id)
        stores.jobs.delete(job.id)
        assert stores.events.after(job.id, 0) == []
        with pytest.raises(NotFound):
            stores.jobs.get(job.id)

    def test_one_key_makes_one_job(self, stores: Stores) -> None:
        key = IdempotencyKey("key", "digest")
        earlier = stores.jobs.add(builders.job(), QUEUED, key)
        assert stores.jobs.add(builders.job(), QUEUED, key).id == earlier.id
        assert len(stores.jobs.find(JobFilter(), limit=9).jobs) == 1

    def test_one_key_with_another_request_is_refused(self, stores: Stores) -> None:
        stores.jobs.add(builders.job(), QUEUED, IdempotencyKey("key", "digest"))
        with pytest.raises(IdempotencyMismatch):
            stores.jobs.add(builders.job(), QUEUED, IdempotencyKey("key", "another"))

    def test_keys_of_different_owners_do_not_meet(self, stores: Stores) -> None:
        key = IdempotencyKey("key", "digest")
        anns = stores.jobs.add(builders.job(owner="ann"), QUEUED, key)
        bobs = stores.jobs.add(builders.job(owner="bob"), QUEUED, key)
        assert anns.id != bobs.id

    def test_a_hundred_equal_requests_at_once_make_one_job(self, stores: Stores) -> None:
        key = IdempotencyKey("key", "digest")
        with ThreadPoolExecutor(16) as pool:
            jobs = list(
                pool.map(lambda job: stores.jobs.add(job, QUEUED, key), [builders.job() for _ in range(100)])
            )
        assert len({job.id for job in jobs}) == 1


class TestEvents:
    def test_events_are_numbered_in_order(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        claim(stores)
        assert stores.events.append(job.id, 1, (EventKind.IMAGE, {"index": 0}), START)
        events = stores.events.after(job.id, 0)
        assert [event.kind for event in events] == [EventKind.QUEUED, EventKind.STARTED, EventKind.IMAGE]
        assert [event.seq for event in events] == [1, 2, 3]
        assert stores.events.after(job.id, 2) == events[2:]

    def test_only_the_latest_progress_is_kept_under_a_growing_number(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        claim(stores)
        numbers = []
        for step in (1, 2, 3):
            stores.events.append(job.id, 1, (EventKind.PROGRESS, {"step": step}), START)
            progress = [e for e in stores.events.after(job.id, 0) if e.kind is EventKind.PROGRESS]
            assert [event.data["step"] for event in progress] == [step]
            numbers.append(progress[0].seq)
        assert numbers == sorted(set(numbers))

    def test_an_attempt_that_no_longer_counts_adds_nothing(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        running = claim(stores)
        assert running is not None
        assert not stores.events.append(job.id, 2, (EventKind.IMAGE, {}), START)
        stores.jobs.change(running.ended(JobState.CANCELLED, START), at=START)
        assert not stores.events.append(job.id, 1, (EventKind.IMAGE, {}), START)
        assert [event.kind for event in stores.events.after(job.id, 0)] == [
            EventKind.QUEUED,
            EventKind.STARTED,
        ]


class TestQueue:
    def test_an_empty_queue_gives_nothing(self, stores: Stores) -> None:
        assert claim(stores) is None

    def test_a_claim_leases_the_job_and_counts_the_epoch(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        claimed = claim(stores)
        assert claimed is not None
        assert (claimed.id, claimed.state, claimed.epoch) == (job.id, JobState.RUNNING, 1)
        assert claimed.lease_until == START + LEASE
        assert stores.jobs.get(job.id) == claimed
        assert claim(stores) is None

    def test_an_owner_is_served_first_in_first_out(self, stores: Stores) -> None:
        ids = [stores.jobs.add(builders.job(), QUEUED).id for _ in range(3)]
        assert [claim(stores).id for _ in ids] == ids  # type: ignore[union-attr]

    def test_owners_take_turns(self, stores: Stores) -> None:
        for owner in ("ann", "ann", "ann", "bob", "bob", "cat"):
            stores.jobs.add(builders.job(owner=owner), QUEUED)
        served = [claim(stores).owner for _ in range(6)]  # type: ignore[union-attr]
        assert sorted(served[:3]) == ["ann", "bob", "cat"]
        assert sorted(served[3:5]) == ["ann", "bob"]
        assert served[5] == "ann"

    def test_endpoints_do_not_share_a_queue(self, stores: Stores) -> None:
        stores.jobs.add(builders.job(endpoint="far"), QUEUED)
        assert claim(stores, "pocket") is None
        assert claim(stores, "far") is not None

    def test_the_chooser_sees_each_owners_oldest_job(self, stores: Stores) -> None:
        oldest = [stores.jobs.add(builders.job(owner=owner), QUEUED).id for owner in ("ann", "bob")]
        stores.jobs.add(builders.job(owner="ann"), QUEUED)
        heads: list[str] = []

        def last(jobs: list[Job]) -> Job:
            heads.extend(job.id for job in jobs)
            return jobs[-1]

        claimed = stores.queue.claim("pocket", START, START + LEASE, last)
        assert sorted(heads) == oldest
        assert claimed is not None
        assert claimed.id == heads[-1]

    def test_many_owners_may_come_at_once(self, stores: Stores, others: Stores) -> None:
        with ThreadPoolExecutor(8) as pool:
            asked = [builders.job(owner=f"owner {n // 4}") for n in range(32)]
            list(pool.map(lambda job: (stores, others)[job.owner < "owner 4"].jobs.add(job, QUEUED), asked))
        assert len({claim(stores).id for _ in asked}) == 32  # type: ignore[union-attr]

    def test_claims_at_once_never_take_the_same_job(self, stores: Stores) -> None:
        ids = {stores.jobs.add(builders.job(owner=f"owner {n % 3}"), QUEUED).id for n in range(30)}
        with ThreadPoolExecutor(8) as pool:
            claimed = [job.id for job in pool.map(lambda _: claim(stores), range(40)) if job]
        assert len(claimed) == 30
        assert set(claimed) == ids

    def test_two_control_planes_never_take_the_same_job(self, stores: Stores, others: Stores) -> None:
        ids = {stores.jobs.add(builders.job(owner=f"owner {n % 3}"), QUEUED).id for n in range(30)}
        with ThreadPoolExecutor(8) as pool:
            claims = pool.map(lambda n: claim(others if n % 2 else stores), range(40))
            claimed = [job.id for job in claims if job]
        assert len(claimed) == 30
        assert set(claimed) == ids

    def test_a_renewal_extends_the_lease_of_the_attempt_that_counts(self, stores: Stores) -> None:
        job = stores.jobs.add(builders.job(), QUEUED)
        claim(stores)
        later = START + 2 * LEASE
        assert stores.queue.renew(job.id, 1, later)
        assert stores.jobs.get(job.id).lease_until == later
        assert not stores.queue.renew(job.id, 2, later)

    def test_a_renewal_does_not_make_the_result_stale(self, stores: Stores) -> None:
        stores.jobs.add(builders.job(), QUEUED)
        claimed = claim(stores)
        assert claimed is not None
        stores.queue.renew(claimed.id, 1, START + 2 * LEASE)
        stores.jobs.change(claimed.succeeded(START, ()), at=START)
        assert stores.jobs.get(claimed.id).state is JobState.SUCCEEDED

    def test_overdue_are_lapsed_leases_and_long_waits(self, stores: Stores) -> None:
        running = stores.jobs.add(builders.job(owner="ann"), QUEUED)
        claim(stores)
        waiting = stores.jobs.add(builders.job(owner="bob"), QUEUED)
        assert stores.queue.overdue(START + LEASE, queued_before=START) == []
        late = START + LEASE + timedelta(seconds=1)
        assert [job.id for job in stores.queue.overdue(late, queued_before=START)] == [running.id]
        found = stores.queue.overdue(late, queued_before=START + timedelta(seconds=1))
        assert [job.id for job in found] == [running.id, waiting.id]

    def test_the_handle_of_an_attempt_is_kept_until_it_moves_on(self, stores: Stores) -> None:
        stores.jobs.add(builders.job(), QUEUED)
        claimed = claim(stores)
        assert claimed is not None
        assert stores.queue.accept(claimed.id, 1, "there")
        (running,) = stores.queue.running()
        assert (running.handle, running.version) == ("there", claimed.version)
        stores.jobs.change(running.released(), QUEUED, at=START)
        assert stores.jobs.get(claimed.id).handle is None
        assert not stores.queue.accept(claimed.id, 1, "there")

    def test_a_handle_of_an_older_attempt_is_refused(self, stores: Stores) -> None:
        stores.jobs.add(builders.job(), QUEUED)
        first_claim = claim(stores)
        assert first_claim is not None
        stores.jobs.change(first_claim.released(), QUEUED, at=START)
        claim(stores)
        assert not stores.queue.accept(first_claim.id, 1, "there")
        assert stores.queue.accept(first_claim.id, 2, "elsewhere")

    def test_running_jobs_are_those_claimed(self, stores: Stores) -> None:
        for _ in range(2):
            stores.jobs.add(builders.job(), QUEUED)
        claimed = claim(stores)
        assert stores.queue.running() == [claimed]


class TestEndpoints:
    endpoint = Endpoint(spec=EndpointSpec(name="gpu"), created_at=START, changed_at=START)

    def test_an_endpoint_comes_back_as_it_was_stored(self, stores: Stores) -> None:
        stores.endpoints.add(self.endpoint)
        assert stores.endpoints.get("gpu") == self.endpoint
        assert stores.endpoints.all() == [self.endpoint]

    def test_a_name_is_taken_once(self, stores: Stores) -> None:
        stores.endpoints.add(self.endpoint)
        with pytest.raises(Conflict, match="gpu"):
            stores.endpoints.add(self.endpoint)

    def test_a_change_needs_the_version_it_was_read_at(self, stores: Stores) -> None:
        stores.endpoints.add(self.endpoint)
        up = self.endpoint.evolved(START, state=EndpointState.IN_SERVICE, instances=2)
        assert stores.endpoints.change(up) == stores.endpoints.get("gpu")
        with pytest.raises(Stale):
            stores.endpoints.change(up)

    def test_a_deleted_endpoint_is_not_found(self, stores: Stores) -> None:
        stores.endpoints.add(self.endpoint)
        for _ in range(2):
            stores.endpoints.delete("gpu")
        with pytest.raises(NotFound):
            stores.endpoints.get("gpu")
        with pytest.raises(NotFound):
            stores.endpoints.change(self.endpoint)


class TestLimits:
    def test_what_cannot_be_stored_is_refused_not_an_accident(self, stores: Stores) -> None:
        """PostgreSQL keeps no NUL character and no more than a column's length; SQLite does."""
        for owner in ("a\x00b", "a" * 300):
            with suppress(InvalidInput):
                assert stores.jobs.find(JobFilter(owner=owner), limit=9).jobs == ()
                stores.jobs.add(builders.job(owner=owner), QUEUED)


class TestAssets:
    source = AssetSource(builders.checkpoint(), Path("/models/pocket.safetensors"), modified=1)

    def test_an_asset_is_found_by_kind_and_name(self, stores: Stores) -> None:
        stores.assets.put(self.source)
        assert stores.assets.get(AssetKind.CHECKPOINT, "pocket") == self.source.asset
        assert stores.assets.all() == [self.source]
        with pytest.raises(NotFound, match="lora"):
            stores.assets.get(AssetKind.LORA, "pocket")

    def test_a_new_file_replaces_the_old(self, stores: Stores) -> None:
        stores.assets.put(self.source)
        newer = AssetSource(builders.checkpoint(), Path("/models/pocket.safetensors"), modified=2)
        stores.assets.put(newer)
        assert stores.assets.all() == [newer]

    def test_a_deleted_asset_is_gone(self, stores: Stores) -> None:
        stores.assets.put(self.source)
        for _ in range(2):
            stores.assets.delete(AssetKind.CHECKPOINT, "pocket")
        assert stores.assets.all() == []
