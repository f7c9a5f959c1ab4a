"""What is wrong with a gateway itself: its clock, a second box"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("gateway") as gateway:
        gateway.add_column(sa.Column("clock_ms", sa.BigInteger(), nullable=True))
        gateway.add_column(
            sa.Column("clock_told", sa.Boolean(), nullable=False, server_default=sa.text("false"))
        )
        gateway.add_column(sa.Column("cloned_ms", sa.BigInteger(), nullable=True))
        gateway.add_column(sa.Column("switched_ms", sa.BigInteger(), nullable=True))
        gateway.add_column(sa.Column("switches", sa.Text(), nullable=True))
    with op.batch_alter_table("stream") as stream:
        stream.add_column(sa.Column("begun_ms", sa.BigInteger(), nullable=True))
        stream.add_column(sa.Column("boot", sa.String(length=32), nullable=True))
        stream.add_column(sa.Column("mono_ms", sa.BigInteger(), nullable=True))
