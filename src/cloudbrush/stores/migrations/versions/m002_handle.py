"""The handle by which a provider finds a running attempt again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "m002"
down_revision = "m001"


def upgrade() -> None:
    """Jobs that run now have none: no provider before kept one."""
    op.add_column("jobs", sa.Column("handle", sa.Text))
