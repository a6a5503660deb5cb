"""The first tables: jobs and their events, idempotency keys, turns, endpoints, assets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "m001"
down_revision = None


def upgrade() -> None:
    """Create every table of the first release."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("task", sa.String(32), nullable=False),
        sa.Column("checkpoint", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("generation", sa.JSON, nullable=False),
        sa.Column("lost_attempts", sa.JSON, nullable=False),
        sa.Column("problem", sa.JSON),
        sa.Column("images", sa.JSON, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("jobs_by_owner", "jobs", ["owner", "id"])
    op.create_index("jobs_by_owner_and_state", "jobs", ["owner", "state", "id"])
    op.create_index("jobs_in_line", "jobs", ["endpoint", "state", "owner", "id"])
    op.create_index("jobs_by_lease", "jobs", ["state", "lease_until"])
    op.create_index("jobs_by_age", "jobs", ["state", "created_at"])
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_idempotency_keys_job_id", "idempotency_keys", ["job_id"])
    op.create_table(
        "turns",
        sa.Column("endpoint", sa.String(63), primary_key=True),
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("served", sa.BigInteger, nullable=False),
    )
    op.create_index("turns_in_order", "turns", ["endpoint", "served"])
    op.create_table(
        "endpoints",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "assets",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("is_folder", sa.Boolean, nullable=False),
        sa.Column("family", sa.String(32)),
        sa.Column("native_size", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("modified", sa.BigInteger, nullable=False),
    )
