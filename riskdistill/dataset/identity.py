"""What tables hold, as a few hex digits: equal for equal content, however it is cut into batches.

Values are hashed, not Arrow's buffers: what lies beside a slice, or under a null, is no content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from riskdistill.data.schema import LABELS, TRANSACTIONS

_ROWS: Final = 1 << 18  # hashed at a time, which bounds what is copied


def table_digest(table: pa.Table, schema: pa.Schema) -> str:
    """64 hex digits (SHA-256) over the rows of a table, in their order and with the columns of `schema`."""
    digest = hashlib.sha256(f"{schema}\n{table.num_rows}".encode())
    for start in range(0, table.num_rows, _ROWS):
        block = table.select(schema.names).slice(start, _ROWS).combine_chunks()
        for column in block.columns:
            for part in _content(column.combine_chunks()):
                digest.update(part)
    return digest.hexdigest()


def _content(column: Any) -> Iterator[Any]:
    """Which values are there, and the values; for text its lengths in bytes and then all of it."""
    yield np.packbits(column.is_valid().to_numpy(zero_copy_only=False))
    if pa.types.is_string(column.type):
        text = column.fill_null("")
        ends = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
        yield np.diff(ends)
        yield memoryview(text.buffers()[2] or b"")[ends[0] : ends[-1]]
    else:
        numbers = column if pa.types.is_floating(column.type) else column.cast(pa.int64())
        yield numbers.fill_null(0).to_numpy(zero_copy_only=False)


def fingerprint(
    transactions: pa.Table, labels: pa.Table, shaping: str = "", *, truth: pa.Table | None = None
) -> str:
    """16 hex digits over canonical tables and the settings that shape rows made of them."""
    told = [shaping, table_digest(transactions, TRANSACTIONS), table_digest(labels, LABELS)]
    if truth is not None:
        told.append(table_digest(truth, LABELS))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
