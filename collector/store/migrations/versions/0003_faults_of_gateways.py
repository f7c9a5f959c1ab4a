"""What is wrong with a gateway itself: its clock, a second box"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not by batch_alter_table, here and elsewhere: it may make a table anew in SQLite, and one that others
    # refer to cannot be dropped.
    op.add_column("gateway", sa.Column("clock_ms", sa.BigInteger()))
    op.add_column(
        "gateway", sa.Column("clock_told", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.add_column("gateway", sa.Column("cloned_ms", sa.BigInteger()))
    op.add_column("gateway", sa.Column("switched_ms", sa.BigInteger()))
    op.add_column("gateway", sa.Column("switches", sa.Text()))
    op.add_column("stream", sa.Column("begun_ms", sa.BigInteger()))
    op.add_column("stream", sa.Column("boot", sa.String(length=32)))
    op.add_column("stream", sa.Column("mono_ms", sa.BigInteger()))
