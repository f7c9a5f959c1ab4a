"""What downtime asks for: since when a fault is unknown, who told of what, what lasted long"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

LONG = sa.text("end_ms > start_ms + 3600000")
# Of those from before only the newest silence of their gateway is known. Its device is the gateway.
NEWEST_SILENCE = """
    UPDATE occurrence SET unknown_ms = (
        SELECT max(silence.start_ms) FROM occurrence AS silence
        JOIN gateway ON gateway.id = silence.gateway_id
        WHERE silence.site = occurrence.site AND silence.device = gateway.name
            AND silence.gateway_id = occurrence.gateway_id AND silence.minted AND silence.fault = 'silent'
    ) WHERE open AND unknown
"""


def upgrade() -> None:
    op.add_column("occurrence", sa.Column("unknown_ms", sa.BigInteger()))
    op.execute(NEWEST_SILENCE)
    op.drop_index("ix_occurrence_site_device_start_ms", "occurrence")
    op.create_index(
        "ix_occurrence_site_device_gateway_id_start_ms",
        "occurrence",
        ["site", "device", "gateway_id", "start_ms"],
    )
    op.create_index(
        "ix_occurrence_long", "occurrence", ["site", "end_ms"], sqlite_where=LONG, postgresql_where=LONG
    )
