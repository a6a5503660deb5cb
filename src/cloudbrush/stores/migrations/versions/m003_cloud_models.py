"""The catalogue, of each machine its own, with models that are in the cloud."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "m003"
down_revision = "m002"


def upgrade() -> None:
    """Make the table anew: it is read off the model folders at the next start."""
    op.drop_table("assets")
    op.create_table(
        "assets",
        sa.Column("place", sa.String(255), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("is_folder", sa.Boolean, nullable=False),
        sa.Column("family", sa.String(32)),
        sa.Column("native_size", sa.Integer, nullable=False),
        sa.Column("in_cloud", sa.Boolean, nullable=False),
        sa.Column("path", sa.Text),
        sa.Column("modified", sa.BigInteger, nullable=False),
    )
