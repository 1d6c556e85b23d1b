"""What tables hold, as a few hex digits: equal for equal content, however it is cut into batches."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from riskdistill.data.schema import LABELS, TRANSACTIONS


def table_digest(table: pa.Table, schema: pa.Schema) -> str:
    """64 hex digits (SHA-256) over the rows of a table, in their order and with the columns of `schema`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        # one layout, whatever the batches that the table came in
        writer.write_table(table.select(schema.names).combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def fingerprint(
    transactions: pa.Table, labels: pa.Table, shaping: str = "", *, truth: pa.Table | None = None
) -> str:
    """16 hex digits over canonical tables and the settings that shape rows made of them."""
    told = [shaping, table_digest(transactions, TRANSACTIONS), table_digest(labels, LABELS)]
    if truth is not None:
        told.append(table_digest(truth, LABELS))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
