"""Old entries can be deleted; their place and hash stay, and which act deleted them."""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import allow_pruning, append_only

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "pruned_suppressions",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("tombstone", sa.BigInteger, nullable=False, index=True),
    )
    append_only("pruned_suppressions", "suppression log")
    allow_pruning("suppressions", "suppression log")
