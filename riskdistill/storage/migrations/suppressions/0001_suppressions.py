"""The hash-chained suppressions that were added and taken back."""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import append_only

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "suppressions",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    append_only("suppressions", "suppression log")
