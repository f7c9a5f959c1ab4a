"""Indexes for what is asked, and none for what is not"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OPEN = sa.text("closed_ms IS NULL")
RESOLVED = sa.text("closed_ms IS NULL AND work = 'resolved'")
FAR_END = sa.text("end_boot <> first_boot OR end_mono_ms > first_mono_ms + 3600000")
WORKED = sa.text("worked_until_ms IS NOT NULL")
OPEN_ORDERS: dict[str, list[str | sa.TextClause]] = {
    "ix_ticket_open_received": ["received_ms", "id"],
    "ix_ticket_open_site_received": ["site", "received_ms", "id"],
    "ix_ticket_open_worst": [sa.text("severity DESC"), "first_ms", "id"],
    "ix_ticket_open_site_worst": ["site", sa.text("severity DESC"), "first_ms", "id"],
}


def upgrade() -> None:
    op.drop_index("ix_ticket_closed_ms", "ticket")
    op.drop_index("ix_ticket_dedupe_key_first_ms", "ticket")
    op.create_index("ix_ticket_dedupe_key_last_ms", "ticket", ["dedupe_key", "last_ms"])
    op.create_index(
        "ix_ticket_worked",
        "ticket",
        ["dedupe_key", "worked_until_ms"],
        sqlite_where=WORKED,
        postgresql_where=WORKED,
    )
    for name, columns in OPEN_ORDERS.items():
        op.create_index(name, "ticket", columns, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index(
        "ix_ticket_resolved", "ticket", ["last_ms"], sqlite_where=RESOLVED, postgresql_where=RESOLVED
    )
    op.drop_index("ix_occurrence_end_boot", "occurrence")
    op.create_index(
        "ix_occurrence_far_end",
        "occurrence",
        ["gateway_id", "end_boot", "end_mono_ms"],
        sqlite_where=FAR_END,
        postgresql_where=FAR_END,
    )
