"""The database itself: its shape, its durability, the plans of its queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Select, text

from cloudbrush.domain.endpoint import Endpoint, EndpointSpec
from cloudbrush.domain.errors import Conflict, Unavailable
from cloudbrush.domain.job import EventKind, Job, JobState
from cloudbrush.stores.base import JobFilter
from cloudbrush.stores.database import Database
from cloudbrush.stores.sql import (
    SqlEndpoints,
    SqlJobs,
    SqlQueue,
    heads_query,
    jobs_query,
    lock_query,
    overdue_queries,
)
from cloudbrush.stores.tables import metadata
from tests import builders, postgres_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.db'}")
    yield opened
    opened.close()


@pytest.fixture
def on_a_server(postgres: str) -> Iterator[Database]:
    opened = Database(postgres_server.new_database(postgres))
    yield opened
    opened.close()


@pytest.mark.parametrize("place", ["database", "on_a_server"])
def test_the_migrations_lead_to_the_tables_of_the_code(place: str, request: pytest.FixtureRequest) -> None:
    with request.getfixturevalue(place).reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []


def test_a_second_opening_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    for _ in range(2):
        Database(url).close()


def test_many_may_open_a_new_database_at_once(postgres: str) -> None:
    url = postgres_server.new_database(postgres)
    with ThreadPoolExecutor(4) as pool:
        for opened in pool.map(Database, [url] * 4):
            opened.close()


def test_commits_are_on_disk_when_they_return(database: Database) -> None:
    with database.reading() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert tx.execute(text("PRAGMA synchronous")).scalar_one() == 2  # FULL


def test_commits_on_a_server_are_on_disk_too_however_it_is_set_up(postgres: str) -> None:
    url = postgres_server.new_database(postgres)
    opened = Database(f"{url}%20-csynchronous_commit%3Doff")
    with opened.reading() as tx:
        assert tx.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    opened.close()


def test_a_reader_on_a_server_sees_one_moment(on_a_server: Database) -> None:
    count = text("SELECT count(*) FROM endpoints")
    with on_a_server.reading() as tx:
        assert tx.execute(count).scalar_one() == 0
        SqlEndpoints(on_a_server).add(Endpoint(spec=EndpointSpec(name="gpu"), created_at=NOW, changed_at=NOW))
        assert tx.execute(count).scalar_one() == 0


def test_a_server_that_is_not_there_is_said_so() -> None:
    with pytest.raises(Unavailable, match="does not answer") as raised:
        Database("postgresql://user:secret@127.0.0.1:1/name")
    assert "CLOUDBRUSH_DATABASE_URL" in (raised.value.hint or "")
    assert "secret" not in str(raised.value.as_dict())


def test_a_server_that_was_restarted_is_reached_again(on_a_server: Database, postgres: str) -> None:
    SqlEndpoints(on_a_server).all()
    with psycopg.connect(postgres, autocommit=True) as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        connection.execute(f"{others} AND backend_type = 'client backend'")
    assert SqlEndpoints(on_a_server).all() == []


def test_one_control_plane_works_on_a_server_at_a_time(postgres: str) -> None:
    url = postgres_server.new_database(postgres)
    first, second, elsewhere = Database(url), Database(url), Database(postgres_server.new_database(postgres))
    first.hold()
    elsewhere.hold()
    with pytest.raises(Conflict, match="another Cloudbrush"):
        second.hold()
    first.close()
    third = Database(url)
    third.hold()
    for opened in (third, elsewhere):
        opened.close()


class TestClaimsOfTwoControlPlanes:
    """What only a server can show: two transactions that write at once."""

    LEASE = NOW + timedelta(seconds=30)

    def queue(self, database: Database, jobs: int) -> tuple[SqlQueue, list[str]]:
        add = SqlJobs(database).add
        ids = [add(builders.job(), (EventKind.QUEUED, {})).id for _ in range(jobs)]
        return SqlQueue(database), ids

    def test_one_that_was_taken_while_choosing_is_not_taken_again(self, on_a_server: Database) -> None:
        queue, ids = self.queue(on_a_server, 2)
        others: list[Job | None] = []

        def slowly(heads: Sequence[Job]) -> Job:
            if not others:
                others.append(None)
                others.append(queue.claim("pocket", NOW, self.LEASE, lambda heads: heads[0]))
            return heads[0]

        mine = queue.claim("pocket", NOW, self.LEASE, slowly)
        assert mine is not None
        assert others[1] is not None
        assert [others[1].id, mine.id] == ids

    def test_one_that_is_just_being_taken_is_passed_over_without_waiting(self, on_a_server: Database) -> None:
        queue, ids = self.queue(on_a_server, 2)
        with on_a_server.writing() as tx:
            tx.execute(lock_query(SqlJobs(on_a_server).get(ids[0])))
            mine = queue.claim("pocket", NOW, self.LEASE, lambda heads: heads[0])
            assert mine is not None
            assert mine.id == ids[1]
            assert queue.claim("pocket", NOW, self.LEASE, lambda heads: heads[0]) is None


QUERIES = (
    (jobs_query(JobFilter(owner="ann"), 10, None), "jobs_by_owner"),
    (jobs_query(JobFilter(owner="ann"), 10, "cursor"), "jobs_by_owner"),
    (jobs_query(JobFilter(owner="ann", states={JobState.FAILED}), 10, None), "jobs_by_owner_and_state"),
    (jobs_query(JobFilter(owner="ann", created_from=NOW), 10, None), "jobs_by_owner"),
    (heads_query("pocket"), "jobs_in_line"),
    (overdue_queries(NOW, NOW)[0], "jobs_by_lease"),
    (overdue_queries(NOW, NOW)[1], "jobs_by_age"),
)
FILL = (
    """
    INSERT INTO jobs (id, owner, endpoint, task, checkpoint, state, created_at, lease_until, epoch,
                      generation, lost_attempts, images, version)
    SELECT to_char(n, 'FM00000000'), 'owner ' || mod(n, 50), 'endpoint ' || mod(n, 5), 'txt2img', 'model',
           CASE mod(n, 100) WHEN 0 THEN 'queued' WHEN 1 THEN 'running' ELSE 'succeeded' END, n, n, 1,
           '{}', '[]', '[]', 1
    FROM generate_series(1, 20000) AS n
    """,
    "INSERT INTO turns (endpoint, owner, served) SELECT DISTINCT endpoint, owner, 0 FROM jobs",
    "ANALYZE",
)


def test_lists_and_claims_on_a_server_never_go_through_a_whole_table(on_a_server: Database) -> None:
    """As the server itself decides, with a table that would be worth it."""
    with on_a_server.writing() as tx:
        for statement in FILL:
            tx.exec_driver_sql(statement)
    for query, _index in QUERIES:
        sql = str(query.compile(on_a_server.engine, compile_kwargs={"literal_binds": True}))
        with on_a_server.reading() as tx:
            plan = [row[0] for row in tx.exec_driver_sql(f"EXPLAIN {sql}")]
        assert any("Index Scan" in step for step in plan), plan
        assert not [step for step in plan if "Seq Scan on jobs" in step], plan


@pytest.mark.parametrize(("query", "index"), QUERIES)
def test_lists_and_claims_go_by_an_index_and_never_through_a_whole_table(
    database: Database, query: Select[Any], index: str
) -> None:
    sql = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
    with database.reading() as tx:
        plan = [row.detail for row in tx.execute(text(f"EXPLAIN QUERY PLAN {sql}"))]
    assert any(index in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN") and "INDEX" not in step], plan
