"""The decision log's tables. `migrations/` makes them; a test compares the two.

`decisions` and `acts` share one sequence and one hash chain. A decision whose body was deleted leaves its
sequence and hash in `pruned_decisions`. Anchors, payloads and idempotency keys stand beside the chain.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, Table, Text

METADATA: Final = MetaData()
Place = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row id is an INTEGER, of 64 bits too

DECISIONS: Final = Table(
    "decisions",
    METADATA,
    Column("sequence", Place, primary_key=True, autoincrement=False),
    Column("decision_id", Text, nullable=False, unique=True),
    Column("tx_id", Text, nullable=False, unique=True),
    Column("decided_at", Text, nullable=False, index=True),  # ISO 8601, UTC, microseconds: sorts as text
    Column("observed", Place, nullable=False, index=True),
    Column("score", Float(53), nullable=False),
    Column("action", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("bundle_version", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
ACTS: Final = Table(
    "acts",
    METADATA,
    Column("sequence", Place, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
PRUNED: Final = Table(
    "pruned_decisions",
    METADATA,
    Column("sequence", Place, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("tombstone", Place, nullable=False, index=True),  # the sequence of the act that deleted it
    Column("tx_hash", BigInteger),  # of the transaction's id, where a history must have it for account state
)
ANCHORS: Final = Table(
    "anchors",
    METADATA,
    # `decisions`, or the name of a journal, which may be in another database, and the hash of its first entry
    Column("log", Text, primary_key=True, server_default="decisions"),
    Column("origin", Text, primary_key=True, server_default=""),
    Column("sequence", Place, primary_key=True, autoincrement=False),
    Column("public_key", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("signature", Text, nullable=False),
)
PAYLOADS: Final = Table(
    "payloads",
    METADATA,
    Column("sequence", Place, primary_key=True, autoincrement=False),
    Column("decided_at", Text, nullable=False, index=True),
    Column("key_id", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
IDEMPOTENCY: Final = Table(
    "idempotency_keys",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("claimed_at", Text, nullable=False, index=True),
)
