"""The hash-chained cases, and which transactions each is of."""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import append_only

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "cases",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_table(
        "case_transactions",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tx_id", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("typology", sa.Text),
        sa.Column("known_at", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.Text, nullable=False, index=True),
    )
    op.create_index("case_transactions_by_tx", "case_transactions", ["tx_id", "known_at"])
    append_only("cases", "case log")
