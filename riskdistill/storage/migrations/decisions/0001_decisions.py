"""The hash-chained decisions: what a log of the first version has."""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import append_only

revision = "0001"
down_revision = None

_Place = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("decision_id", sa.Text, nullable=False, unique=True),
        sa.Column("tx_id", sa.Text, nullable=False, unique=True),
        sa.Column("decided_at", sa.Text, nullable=False),
        sa.Column("observed", _Place, nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("bundle_version", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    for column in ("observed", "score", "action", "route", "bundle_version"):
        op.create_index(f"ix_decisions_{column}", "decisions", [column])
    append_only("decisions", "decision log")
