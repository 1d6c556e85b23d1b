"""What tables hold, as a few hex digits: equal for equal content, however it is cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from riskdistill.data.columns import pc
from riskdistill.data.schema import LABELS, TRANSACTIONS


def table_digest(table: pa.Table, schema: pa.Schema) -> str:
    """64 hex digits (SHA-256) over the rows of a table, in their order and with the columns of `schema`."""
    digest = hashlib.sha256(str(table.num_rows).encode())
    for field in schema:
        column = table[field.name].cast(field.type)
        digest.update(f"{field.name}:{field.type}".encode())
        digest.update(np.packbits(column.is_valid().to_numpy()).tobytes())
        for part in _content(column):
            digest.update(part)
    return digest.hexdigest()


def _content(column: pa.ChunkedArray[Any]) -> Iterator[Any]:
    """The bytes of a column's values one after the other, of texts their lengths first; nothing of its layout."""
    if pa.types.is_string(column.type):
        chunks = [pc.fill_null(chunk, "") for chunk in column.chunks]
        for chunk in chunks:
            yield pc.binary_length(chunk).to_numpy()
        for chunk in chunks:
            offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset :][: len(chunk) + 1]
            if len(chunk):
                yield memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]]
    elif pa.types.is_boolean(column.type):
        yield np.packbits(pc.fill_null(column, False).to_numpy()).tobytes()
    else:
        for chunk in column.chunks:
            yield pc.fill_null(chunk, pa.scalar(0).cast(column.type)).to_numpy()


def fingerprint(
    transactions: pa.Table, labels: pa.Table, shaping: str = "", *, truth: pa.Table | None = None
) -> str:
    """16 hex digits over canonical tables and the settings that shape rows made of them."""
    told = [shaping, table_digest(transactions, TRANSACTIONS), table_digest(labels, LABELS)]
    if truth is not None:
        told.append(table_digest(truth, LABELS))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
