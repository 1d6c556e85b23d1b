"""The index of alerts and samples. Decisions from before it had no such queue, so it begins empty."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_Place = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("tx_id", sa.Text, nullable=False, index=True),
        sa.Column("decided_at", sa.Text, nullable=False, index=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("expected_loss", sa.Float(53), nullable=False),
        sa.Column("sample_share", sa.Float(53)),
    )
    op.create_index("alerts_by_value", "alerts", ["kind", "expected_loss"])
