"""Acts in the chain, pruning with proof, anchors, payloads, idempotency keys; indexes that nothing read go."""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import allow_pruning_of_decisions, append_only

revision = "0002"
down_revision = "0001"

_Place = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    for column in ("score", "action", "route", "bundle_version"):
        op.drop_index(f"ix_decisions_{column}", "decisions")
    op.create_index("ix_decisions_decided_at", "decisions", ["decided_at"])
    op.create_table(
        "acts",
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False, index=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    op.create_table(
        "pruned_decisions",
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("tombstone", _Place, nullable=False, index=True),
        sa.Column("tx_hash", sa.BigInteger),
    )
    op.create_table(
        "anchors",
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("public_key", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
    )
    op.create_table(
        "payloads",
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("decided_at", sa.Text, nullable=False, index=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("claimed_at", sa.Text, nullable=False, index=True),
    )
    append_only("acts", "decision log")
    append_only("pruned_decisions", "decision log")
    append_only("anchors", "list of anchors")
    allow_pruning_of_decisions()
