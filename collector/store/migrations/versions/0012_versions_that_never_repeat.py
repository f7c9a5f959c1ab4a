"""Versions of tickets are moments, so that none is given twice"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite keeps any integer in any column of integers.
    if op.get_bind().dialect.name == "postgresql":
        for name in ("version", "alarm_version", "ack_seen"):
            op.alter_column("ticket", name, type_=sa.BigInteger(), existing_nullable=False)
