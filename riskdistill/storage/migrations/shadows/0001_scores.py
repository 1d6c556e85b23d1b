"""What challenger and champion make of each other's transactions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "shadow_scores",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("decided_at", sa.Text, nullable=False, index=True),
        sa.Column("challenger_release", sa.Text, nullable=False, index=True),
        sa.Column("body", sa.Text, nullable=False),
    )
