"""Anchors are of the decision log or of a journal: columns say of which, and how the journal begins.

The columns have defaults, so that a process of the version before, which still runs, anchors as it did.
"""

import sqlalchemy as sa
from alembic import op

from riskdistill.storage.migrations.triggers import append_only

revision = "0004"
down_revision = "0003"

_Place = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_KEY = ["log", "origin", "sequence", "public_key"]


def upgrade() -> None:
    added = (
        sa.Column("log", sa.Text, nullable=False, server_default="decisions"),
        sa.Column("origin", sa.Text, nullable=False, server_default=""),
    )
    if op.get_bind().dialect.name == "postgresql":  # in place: what was granted on the table stays granted
        for column in added:
            op.add_column("anchors", column)
        op.drop_constraint("anchors_pkey", "anchors", type_="primary")
        op.create_primary_key("anchors_pkey", "anchors", _KEY)
        return
    op.rename_table("anchors", "anchors_of_decisions")  # SQLite changes no primary key
    op.create_table(
        "anchors",
        *added,
        sa.Column("sequence", _Place, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(*_KEY),
    )
    columns = "sequence, public_key, hash, at, signature"
    op.execute(f"INSERT INTO anchors ({columns}) SELECT {columns} FROM anchors_of_decisions")
    op.drop_table("anchors_of_decisions")
    append_only("anchors", "list of anchors")
