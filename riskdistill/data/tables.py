"""A folder of canonical tables as files: how they are written, put in order of time, and made to appear together.

New files are made aside and then moved in. A stop halfway leaves the rest of them in a folder `.ready`, and whoever
writes to the folder next finishes the move: it never holds half of a change for good.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from riskdistill.data.order import time_order
from riskdistill.data.readers.canonical import LABELS_FILE, TRANSACTIONS_FILE, TRUTH_FILE
from riskdistill.data.schema import LABELS, QUARANTINE, TRANSACTIONS

QUARANTINE_FILE: Final = "quarantine.parquet"
SUMMARY_FILE: Final = "ingest.json"
QUALITY_FILE: Final = "quality.json"
QUALITY_PAGE: Final = "quality.html"
SCHEMAS: Final = {
    TRANSACTIONS_FILE: TRANSACTIONS,
    LABELS_FILE: LABELS,
    TRUTH_FILE: LABELS,
    QUARANTINE_FILE: QUARANTINE,
}
_FILES: Final = (
    *SCHEMAS,
    QUALITY_FILE,
    QUALITY_PAGE,
    SUMMARY_FILE,
)  # the summary last: without it nothing is loaded
_READY: Final = ".ready"
# what hardly repeats is written plainly: a dictionary of it costs time and saves nothing
_SELDOM_REPEAT: Final = {"tx_id", "sender_account", "receiver_account", "amount_paid", "amount_received", "raw"}


class TableWriter:
    """Writes the tables of `SCHEMAS` to a folder, a stretch at a time; a table that gets no rows has none."""

    def __init__(self, folder: Path) -> None:
        self._open = {name: _parquet(folder / name, schema) for name, schema in SCHEMAS.items()}

    def write(self, name: str, rows: pa.Table) -> None:
        """Add `rows` to the table `name`."""
        if rows.num_rows:
            self._open[name].write_table(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._open.values():
            writer.close()


def _parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    repeated = [name for name in schema.names if name not in _SELDOM_REPEAT]
    times = [entry.name for entry in schema if pa.types.is_timestamp(entry.type)]  # what files are searched by
    return pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=repeated, write_statistics=times
    )


def sort_by_time(folder: Path, *, coarse: bool) -> None:
    """Puts the written tables in order of time, in memory; labels and truth follow the transactions."""
    order = time_order(pq.read_table(folder / TRANSACTIONS_FILE), coarse=coarse)
    for name in (TRANSACTIONS_FILE, LABELS_FILE, TRUTH_FILE):
        rows = pq.read_table(folder / name)
        if rows.num_rows:
            with _parquet(folder / name, SCHEMAS[name]) as writer:
                writer.write_table(rows.take(order))


def publish(made: Path, folder: Path) -> None:
    """Moves the finished files of the folder `made` to `folder`, on the same disk."""
    os.replace(made, folder / _READY)
    finish_publishing(folder)


def finish_publishing(folder: Path) -> None:
    """Moves in what is ready, if anything is: an earlier process may have been stopped while it did."""
    ready = folder / _READY
    if not ready.is_dir():
        return
    if (ready / SUMMARY_FILE).exists():
        (folder / SUMMARY_FILE).unlink(missing_ok=True)
    for name in _FILES:
        if (ready / name).exists():
            os.replace(ready / name, folder / name)
    ready.rmdir()
