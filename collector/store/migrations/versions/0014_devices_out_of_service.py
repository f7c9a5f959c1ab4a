"""Devices that people took out of service"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "out_of_service",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(64), nullable=False),
        sa.Column("ended_ms", sa.BigInteger()),
        sa.Column("ended_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_out_of_service"),
    )
    op.create_index("ix_out_of_service_site_device_from_ms", "out_of_service", ["site", "device", "from_ms"])
    goes_on = sa.text("ended_ms IS NULL")
    op.create_index(
        "ux_out_of_service_goes_on",
        "out_of_service",
        ["site", "device"],
        unique=True,
        sqlite_where=goes_on,
        postgresql_where=goes_on,
    )
