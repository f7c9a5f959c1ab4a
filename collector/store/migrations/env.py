"""Runs the numbered migrations over the connection that ``migrate`` hands in."""

from __future__ import annotations

from alembic import context

from collector.store import partial_indexes  # noqa: F401  they belong to the tables
from collector.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
