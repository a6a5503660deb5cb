"""The database itself: its shape, its durability, the plans of its queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Select, text

from cloudbrush.domain.job import JobState
from cloudbrush.stores.base import JobFilter
from cloudbrush.stores.database import Database
from cloudbrush.stores.sql import heads_query, jobs_query, overdue_queries
from cloudbrush.stores.tables import metadata

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.db'}")
    yield opened
    opened.close()


def test_the_migrations_lead_to_the_tables_of_the_code(database: Database) -> None:
    with database.reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []


def test_a_second_opening_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    for _ in range(2):
        Database(url).close()


def test_commits_are_on_disk_when_they_return(database: Database) -> None:
    with database.reading() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert tx.execute(text("PRAGMA synchronous")).scalar_one() == 2  # FULL


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (jobs_query(JobFilter(owner="ann"), 10, None), "jobs_by_owner"),
        (jobs_query(JobFilter(owner="ann"), 10, "cursor"), "jobs_by_owner"),
        (jobs_query(JobFilter(owner="ann", states={JobState.FAILED}), 10, None), "jobs_by_owner_and_state"),
        (jobs_query(JobFilter(owner="ann", created_from=NOW), 10, None), "jobs_by_owner"),
        (heads_query("pocket"), "jobs_in_line"),
        (overdue_queries(NOW, NOW)[0], "jobs_by_lease"),
        (overdue_queries(NOW, NOW)[1], "jobs_by_age"),
    ],
)
def test_lists_and_claims_go_by_an_index_and_never_through_a_whole_table(
    database: Database, query: Select[Any], index: str
) -> None:
    sql = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
    with database.reading() as tx:
        plan = [row.detail for row in tx.execute(text(f"EXPLAIN QUERY PLAN {sql}"))]
    assert any(index in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN") and "INDEX" not in step], plan
