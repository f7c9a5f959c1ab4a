"""When gaps were, and how much was lost"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("count", "from_ms", "to_ms"):
        op.add_column("gap", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    # Of those from before only the moment is known at which they were declared.
    op.execute("UPDATE gap SET from_ms = at_ms, to_ms = at_ms")
