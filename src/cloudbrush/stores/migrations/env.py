"""Alembic's entry: runs the migrations on the connection that `stores.database` opened."""

from __future__ import annotations

from alembic import context

from cloudbrush.stores.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
