"""Since when gateways can be heard by any collector"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    listening = op.create_table(
        "listening",
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
    )
    op.bulk_insert(listening, [{"since_ms": 0, "last_ms": 0}])
