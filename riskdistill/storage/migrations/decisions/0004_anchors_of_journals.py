"""Anchors are of the decision log or of a journal: a column says of which."""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import append_only

revision = "0004"
down_revision = "0003"

_Place = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.rename_table("anchors", "anchors_of_decisions")  # SQLite changes no primary key
    op.create_table(
        "anchors",
        sa.Column("log", sa.Text, primary_key=True),
        sa.Column("sequence", _Place, primary_key=True, autoincrement=False),
        sa.Column("public_key", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
    )
    columns = "sequence, public_key, hash, at, signature"
    op.execute(f"INSERT INTO anchors (log, {columns}) SELECT 'decisions', {columns} FROM anchors_of_decisions")
    op.drop_table("anchors_of_decisions")
    append_only("anchors", "list of anchors")
