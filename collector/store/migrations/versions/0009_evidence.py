"""What gateways recorded around the raise of an occurrence"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evidence",
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("part", sa.String(64), nullable=False),
        sa.Column("gateway_id", sa.String(64), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["uid"], ["occurrence.uid"], name="fk_evidence_uid_occurrence", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name="fk_evidence_gateway_id_gateway"),
        sa.PrimaryKeyConstraint("uid", "part", name="pk_evidence"),
    )
    kept = sa.text("bytes > 0")
    op.create_index(
        "ix_evidence_kept",
        "evidence",
        ["gateway_id", "received_ms", "bytes"],
        sqlite_where=kept,
        postgresql_where=kept,
    )
