"""The tables of the SQL stores; `migrations/` brings a database to this shape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import JSON, TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """A time in UTC, stored as whole microseconds since 1970: sorts and compares alike in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        """Aware datetime to microseconds."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Microseconds to aware datetime."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("task", String(32), nullable=False),
    Column("checkpoint", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("epoch", Integer, nullable=False),
    Column("lease_until", Moment),
    Column("handle", Text),
    Column("generation", JSON, nullable=False),
    Column("lost_attempts", JSON, nullable=False),
    Column("problem", JSON),
    Column("images", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    Index("jobs_by_owner", "owner", "id"),
    Index("jobs_by_owner_and_state", "owner", "state", "id"),
    Index("jobs_in_line", "endpoint", "state", "owner", "id"),
    Index("jobs_by_lease", "state", "lease_until"),
    Index("jobs_by_age", "state", "created_at"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("at", Moment, nullable=False),
    Column("data", JSON, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
)

turns = Table(
    "turns",  # when each owner was last served by an endpoint; makes round-robin cost one look per owner
    metadata,
    Column("endpoint", String(63), primary_key=True),
    Column("owner", String(255), primary_key=True),
    Column("served", BigInteger, nullable=False),
    Index("turns_in_order", "endpoint", "served"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("spec", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("failure_reason", Text),
    Column("version", Integer, nullable=False),
)

assets = Table(
    "assets",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("is_folder", Boolean, nullable=False),
    Column("family", String(32)),
    Column("native_size", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("modified", BigInteger, nullable=False),
)
