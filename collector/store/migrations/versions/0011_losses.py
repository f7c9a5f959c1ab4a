"""What was lost is counted once, in whatever stream it is told"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "loss",
        sa.Column("gateway_id", sa.String(64), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("through", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name="fk_loss_gateway_id_gateway"),
        sa.PrimaryKeyConstraint("gateway_id", "id", name="pk_loss"),
    )
