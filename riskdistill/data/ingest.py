"""Ingest: a source of any known format into a folder of canonical tables.

    transactions.parquet   in order of time
    labels.parquet         row for row beside the transactions; no rows where the source has no labels
    quarantine.parquet     what did not parse: row number, reason, the row itself
    ingest.json            the count of every row that was read

accepted + quarantined + set-up + beyond `until` = read, always. The files appear together when all is well: a
failure leaves what was there before.

Rows of one timestamp keep the source's order, unless its reader declares the clock coarse: then their order in the
file is no fact and can give the label away, and their content orders them (see `order`). Labels go with their rows.
Only ids that count the source's rows still tell its order; ids are never inputs.

A source larger than memory streams through as long as it is in order and its clock is fine; the others are sorted
in memory at the end.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from riskdistill.data.ahead import ahead
from riskdistill.data.canonical import canonical_table
from riskdistill.data.columns import pc
from riskdistill.data.order import time_order
from riskdistill.data.readers import canonical, reader
from riskdistill.data.readers.canonical import LABELS_FILE, TRANSACTIONS_FILE
from riskdistill.data.schema import LABELS, QUARANTINE, TIMESTAMP, TRANSACTIONS
from riskdistill.data.validate import Batch
from riskdistill.errors import ConfigError, EmptyInputError, TransactionError, UnreadableFileError

QUARANTINE_FILE: Final = "quarantine.parquet"
SUMMARY_FILE: Final = "ingest.json"
_SCHEMAS: Final = {TRANSACTIONS_FILE: TRANSACTIONS, LABELS_FILE: LABELS, QUARANTINE_FILE: QUARANTINE}

Progress = Callable[[int], None]  # called with the rows read so far


class IngestSummary(BaseModel):
    """What became of every row of a source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    format: str
    rows_read: int
    accepted: int
    set_up: int
    beyond_until: int
    quarantined: int
    quarantined_by_reason: dict[str, int]
    positives: int
    by_typology: dict[str, int]
    first: datetime
    last: datetime
    sorted_here: bool  # the source was not in order of time
    ties: Literal["source order", "content"]  # what orders the rows of one timestamp


@dataclass
class _Tally:
    rows_read: int = 0
    accepted: int = 0
    set_up: int = 0
    beyond_until: int = 0
    positives: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    typologies: Counter[str] = field(default_factory=Counter)
    first: datetime | None = None
    last: datetime | None = None
    in_order: bool = True
    coarse: bool = False

    def add(self, batch: Batch, transactions: pa.Table, labels: pa.Table) -> None:
        """Counts `batch`, of which `transactions` and `labels` are kept."""
        self.rows_read += batch.rows_read
        self.accepted += transactions.num_rows
        self.set_up += batch.set_up
        self.coarse |= batch.coarse
        self.beyond_until += batch.transactions.num_rows - transactions.num_rows
        self.reasons.update(str(reason).split(": ")[0] for reason in batch.rejected["reason"].to_pylist())
        self.positives += pc.sum(labels["is_laundering"]).as_py() or 0
        for name, count in zip(*pc.value_counts(labels["typology"]).flatten(), strict=True):
            self.typologies[name.as_py()] += count.as_py()
        if transactions.num_rows:
            times = transactions["timestamp"].cast(pa.int64()).to_numpy()
            earliest, latest = (moment.as_py() for moment in pc.min_max(transactions["timestamp"]).values())
            begins_late = self.last is None or transactions["timestamp"][0].as_py() >= self.last
            self.in_order &= begins_late and bool((np.diff(times) >= 0).all())
            self.first = min(self.first or earliest, earliest)
            self.last = max(self.last or latest, latest)

    def summary(self, source: Path, format_name: str) -> IngestSummary:
        """The counts, if anything was accepted.

        Raises:
            EmptyInputError: nothing was, with the most frequent reason.
        """
        if self.first is None or self.last is None:
            usual = self.reasons.most_common(1)
            told = f"; most often: {usual[0][0]}" if usual else ""
            raise EmptyInputError(
                f"none of {self.rows_read} rows is usable{told}",
                where=str(source),
                mend="check the format, the mapping and the time limit",
            )
        return IngestSummary(
            source=str(source),
            format=format_name,
            rows_read=self.rows_read,
            accepted=self.accepted,
            set_up=self.set_up,
            beyond_until=self.beyond_until,
            quarantined=self.reasons.total(),
            quarantined_by_reason=dict(self.reasons.most_common()),
            positives=self.positives,
            by_typology=dict(sorted(self.typologies.items())),
            first=self.first,
            last=self.last,
            sorted_here=not self.in_order,
            ties="content" if self.coarse else "source order",
        )


def ingest(
    source: Path,
    out: Path,
    *,
    format: str,
    mapping: Path | None = None,
    until: datetime | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Reads `source` into canonical tables in the folder `out`, which is made if need be.

    Args:
        source: a file, or the folder that holds it.
        format: one of `readers.FORMATS`.
        mapping: YAML that names the columns, for the format `mapping`.
        until: transactions at or after this time (with an offset) are counted and left out.
        progress: called after each stretch with the rows read so far.

    Raises:
        UnknownFormatError, ConfigError: before anything is read.
        DataError: the source cannot be used as a whole; `out` is as it was.
    """
    read = reader(format, mapping)
    if until is not None and until.tzinfo is None:
        raise ConfigError(
            f"the limit {until.isoformat()} has no time zone",
            mend="add a UTC offset, e.g. 2022-09-10T00:00:00Z",
        )
    out.mkdir(parents=True, exist_ok=True)
    tally = _Tally()
    with tempfile.TemporaryDirectory(prefix=".ingest-", dir=out) as made:
        folder = Path(made)
        with ExitStack() as open_files:
            writers = {
                name: open_files.enter_context(pq.ParquetWriter(folder / name, schema, compression="zstd"))
                for name, schema in _SCHEMAS.items()
            }
            for batch in ahead(read(source)):
                transactions, labels = _before(batch, until)
                tally.add(batch, transactions, labels)
                kept = {TRANSACTIONS_FILE: transactions, LABELS_FILE: labels, QUARANTINE_FILE: batch.rejected}
                for name, table in kept.items():
                    if table.num_rows:
                        writers[name].write_table(table)
                if progress is not None:
                    progress(tally.rows_read)
        summary = tally.summary(source, format)
        if summary.sorted_here or tally.coarse:
            _sort(folder, tally.coarse)
        (folder / SUMMARY_FILE).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _publish(folder, out)
    return summary


def load_canonical(folder: Path) -> tuple[pa.Table, pa.Table]:
    """The transactions and the labels that `ingest` wrote to `folder`.

    Raises:
        UnreadableFileError: not such a folder, or its files are damaged or not canonical.
    """
    if not (folder / SUMMARY_FILE).is_file():
        raise UnreadableFileError(
            f"not a folder of canonical tables: no {SUMMARY_FILE}",
            where=str(folder),
            mend="run ingest first; what `simulate` wrote has the format 'canonical'",
        )
    return _load(folder / TRANSACTIONS_FILE), _load(folder / LABELS_FILE)


def read_transactions(path: Path) -> tuple[pa.Table, pa.Table]:
    """The transactions of a canonical file, or of a folder that holds one, without their labels.

    Returns:
        transactions: schema TRANSACTIONS, in order of time, rows of one timestamp in the file's order.
        rejected: schema QUARANTINE, the rows that are not valid, in the file's order.

    Raises:
        DataError: the file cannot be used as a whole.
    """
    batches = list(canonical.read(path, labelled=False))
    transactions = pa.concat_tables(batch.transactions for batch in batches)
    rejected = pa.concat_tables(batch.rejected for batch in batches)
    return transactions.take(time_order(transactions, coarse=False)), rejected


def _load(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        told = str(error).splitlines()[0]
        raise UnreadableFileError(told, where=str(path), mend="run ingest again") from error
    try:
        if path.name == TRANSACTIONS_FILE:  # which may be older than the optional columns
            return canonical_table(table)
    except TransactionError as error:
        raise UnreadableFileError(f"not canonical: {error}", where=str(path), mend="run ingest again") from error
    if not table.schema.equals(_SCHEMAS[path.name]):
        raise UnreadableFileError("its columns are not canonical", where=str(path), mend="run ingest again")
    return table


def _before(batch: Batch, until: datetime | None) -> tuple[pa.Table, pa.Table]:
    """The transactions of `batch` before `until`, and their labels."""
    if until is None:
        return batch.transactions, batch.labels
    early: Any = pc.less(batch.transactions["timestamp"], pa.scalar(until, TIMESTAMP))
    labels = batch.labels.filter(early) if batch.labels.num_rows else batch.labels
    return batch.transactions.filter(early), labels


def _sort(folder: Path, coarse: bool) -> None:
    """Puts the written tables in order of time, in memory; the labels follow the transactions."""
    transactions, labels = pq.read_table(folder / TRANSACTIONS_FILE), pq.read_table(folder / LABELS_FILE)
    order = time_order(transactions, coarse=coarse)
    pq.write_table(transactions.take(order), folder / TRANSACTIONS_FILE, compression="zstd")
    if labels.num_rows:
        pq.write_table(labels.take(order), folder / LABELS_FILE, compression="zstd")


def _publish(folder: Path, out: Path) -> None:
    """Moves the finished files to `out`, the summary last: without it nothing is loaded."""
    (out / SUMMARY_FILE).unlink(missing_ok=True)
    for name in (*_SCHEMAS, SUMMARY_FILE):
        os.replace(folder / name, out / name)
