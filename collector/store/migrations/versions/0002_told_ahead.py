"""What a stream has told ahead of its history"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stream", sa.Column("told_ahead", sa.BigInteger(), nullable=False, server_default="0"))
