"""What explains a fault, so that nobody is called for it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("ticket", "occurrence"):
        op.add_column(table, sa.Column("because", sa.String(32)))
        op.add_column(
            table, sa.Column("waits", sa.Boolean(), nullable=False, server_default=sa.text("false"))
        )
    _index("ix_ticket_because", "ticket", ["because", "device"], "because IS NOT NULL")
    _index("ix_occurrence_because", "occurrence", ["because"], "because IS NOT NULL AND open")


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
