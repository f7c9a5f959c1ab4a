"""Indexes that are taken, however much one site or one boot has stored"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

RESOLVED = sa.text("closed_ms IS NULL AND work = 'resolved'")


def upgrade() -> None:
    op.drop_index("ix_ticket_site_device", "ticket")
    op.create_index("ix_ticket_site_device_received_ms", "ticket", ["site", "device", "received_ms", "id"])
    op.drop_index("ix_ticket_resolved", "ticket")
    op.create_index(
        "ix_ticket_resolved", "ticket", ["site", "last_ms"], sqlite_where=RESOLVED, postgresql_where=RESOLVED
    )
    op.create_index("ix_boot_offset_least", "boot_offset", ["gateway_id", "boot", "offset_ms"])
    if op.get_bind().dialect.name != "sqlite":
        return
    for name, column, where in (
        ("ix_occurrence_open", "gateway_id", "open = 1"),
        ("ix_occurrence_because", "because", "because IS NOT NULL AND open = 1"),
    ):
        op.drop_index(name, "occurrence")
        op.create_index(name, "occurrence", [column], sqlite_where=sa.text(where))
