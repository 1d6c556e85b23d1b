"""Ingest: a source of any known format into a folder of canonical tables.

    transactions.parquet   in order of time
    labels.parquet         row for row beside the transactions; no rows where the source has no labels
    truth.parquet          likewise, what a simulator knows to be true: for evaluation only, never mixed into labels
    quarantine.parquet     what did not parse: row number, reason, the row itself (see `reingest`)
    quality.json, .html    what is suspicious in the rows that are usable (see `quality`)
    ingest.json            the count of every row that was read

accepted + quarantined + set-up + beyond `until` = read, always. The files appear together when all is well: a
failure leaves what was there before.

Rows of one timestamp keep the source's order, unless its reader declares the clock coarse: then their order in the
file is no fact and can give the label away, and their content orders them (see `order`). Labels go with their rows.
Only ids that count the source's rows still tell its order; ids are never inputs.

A source larger than memory streams through as long as it is in order and its clock is fine; the others are sorted
in memory at the end. Parsing, checking and writing go on at once, in threads; what is written is the same however
many cores there are.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from riskdistill.data.ahead import ahead
from riskdistill.data.canonical import canonical_table
from riskdistill.data.columns import pc
from riskdistill.data.order import time_order
from riskdistill.data.quality import QualityMeter
from riskdistill.data.quality_page import write_quality
from riskdistill.data.readers import canonical, reader
from riskdistill.data.readers.canonical import LABELS_FILE, TRANSACTIONS_FILE, TRUTH_FILE
from riskdistill.data.readers.mapping import ColumnMapping, load_mapping
from riskdistill.data.schema import TIMESTAMP
from riskdistill.data.tables import (
    QUARANTINE_FILE,
    SCHEMAS,
    SUMMARY_FILE,
    TableWriter,
    finish_publishing,
    publish,
    sort_by_time,
)
from riskdistill.data.transaction import describe
from riskdistill.data.validate import Batch
from riskdistill.errors import ConfigError, EmptyInputError, TransactionError, UnreadableFileError

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
    out_of_order: int  # its rows that were stamped earlier than one before them
    ties: Literal["source order", "content"]  # what orders the rows of one timestamp
    # how it was read, to read corrected rows in the same way
    columns: tuple[str, ...]  # of the source
    mapping: ColumnMapping | None
    until: datetime | None


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
    out_of_order: int = 0
    coarse: bool = False
    columns: tuple[str, ...] = ()

    def add(self, batch: Batch, kept: Batch) -> None:
        """Counts `batch`, of which the transactions of `kept` are kept."""
        self.rows_read += batch.rows_read
        self.accepted += kept.transactions.num_rows
        self.set_up += batch.set_up
        self.coarse |= batch.coarse
        self.columns = batch.columns
        self.beyond_until += batch.transactions.num_rows - kept.transactions.num_rows
        self.reasons.update(map(reason_kind, batch.rejected["reason"].to_pylist()))
        self.positives += pc.sum(kept.labels["is_laundering"]).as_py() or 0
        self.typologies.update(typology_counts(kept.labels))
        if kept.transactions.num_rows:
            times = kept.transactions["timestamp"].cast(pa.int64()).to_numpy()
            earliest, latest = (moment.as_py() for moment in pc.min_max(kept.transactions["timestamp"]).values())
            before = 0 if self.last is None else pa.scalar(self.last, TIMESTAMP).cast(pa.int64()).as_py()
            self.out_of_order += int((times < np.maximum(np.maximum.accumulate(times), before)).sum())
            self.first = min(self.first or earliest, earliest)
            self.last = max(self.last or latest, latest)

    def summary(
        self, source: Path, format_name: str, mapping: ColumnMapping | None, until: datetime | None
    ) -> IngestSummary:
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
            sorted_here=self.out_of_order > 0,
            out_of_order=self.out_of_order,
            ties="content" if self.coarse else "source order",
            columns=self.columns,
            mapping=mapping,
            until=until,
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
    finish_publishing(out)
    tally, meter = _Tally(), QualityMeter()
    with tempfile.TemporaryDirectory(prefix=".ingest-", dir=out) as aside:
        folder = Path(aside) / "made"
        folder.mkdir()
        with TableWriter(folder) as writer:
            for batch in ahead(read(source)):
                kept = before(batch, until)
                tally.add(batch, kept)
                meter.add(kept.transactions)
                write_batch(writer, kept)
                if progress is not None:
                    progress(tally.rows_read)
        spelled = None if mapping is None else load_mapping(mapping)
        summary = tally.summary(source, format, spelled, until)
        if summary.sorted_here or tally.coarse:
            sort_by_time(folder, coarse=tally.coarse)
            meter = measured_again(folder)  # for balances follow one another in time
        finish(folder, summary, meter)
        publish(folder, out)
    return summary


def write_batch(writer: TableWriter, batch: Batch) -> None:
    """Adds all rows of `batch` to the tables."""
    writer.write(TRANSACTIONS_FILE, batch.transactions)
    writer.write(LABELS_FILE, batch.labels)
    writer.write(TRUTH_FILE, batch.truth)
    writer.write(QUARANTINE_FILE, batch.rejected)


def before(batch: Batch, until: datetime | None) -> Batch:
    """`batch` without its transactions at or after `until`, with their labels and truth."""
    if until is None:
        return batch
    early: Any = pc.less(batch.transactions["timestamp"], pa.scalar(until, TIMESTAMP))
    return batch.only(early.to_numpy())


def measured_again(folder: Path) -> QualityMeter:
    """A meter that has seen the written transactions, in order of time."""
    meter = QualityMeter()
    with pq.ParquetFile(folder / TRANSACTIONS_FILE) as file:
        for stretch in file.iter_batches():
            meter.add(pa.Table.from_batches([stretch]))
    return meter


def finish(folder: Path, summary: IngestSummary, meter: QualityMeter) -> None:
    """Writes what is said of the tables: their quality, and the summary."""
    report = meter.report(
        summary.source,
        summary.format,
        rows_read=summary.rows_read,
        out_of_order=summary.out_of_order,
        refused=summary.quarantined_by_reason,
    )
    write_quality(folder, report)
    (folder / SUMMARY_FILE).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")


def reason_kind(reason: str) -> str:
    """A quarantine reason without the value that it quotes."""
    return reason.split(": ")[0]


def typology_counts(labels: pa.Table) -> dict[str, int]:
    """How many rows of `labels` there are of each typology."""
    counted = pc.value_counts(labels["typology"]).flatten()
    return dict(zip(*(column.to_pylist() for column in counted), strict=True))


def load_canonical(folder: Path) -> tuple[pa.Table, pa.Table]:
    """The transactions and the labels that `ingest` wrote to `folder`.

    Raises:
        UnreadableFileError: not such a folder, or its files are damaged or not canonical.
    """
    _check_finished(folder)
    return _load(folder / TRANSACTIONS_FILE), _load(folder / LABELS_FILE)


def load_truth(folder: Path) -> pa.Table | None:
    """What is true of every transaction that `ingest` wrote to `folder`, row for row; None where nobody knows.

    It has the schema of labels and is for evaluation: a model is never trained on it.

    Raises:
        UnreadableFileError: not such a folder, or its files are damaged or not canonical.
    """
    _check_finished(folder)
    if not (folder / TRUTH_FILE).is_file():  # written before there was truth
        return None
    truth = _load(folder / TRUTH_FILE)
    return truth if truth.num_rows else None


def load_quarantine(folder: Path) -> tuple[IngestSummary, pa.Table]:
    """The summary and the quarantine that `ingest` wrote to `folder`.

    Raises:
        UnreadableFileError: not such a folder, its files are damaged, or an older version wrote them.
    """
    _check_finished(folder)
    file = folder / SUMMARY_FILE
    try:
        summary = IngestSummary.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UnreadableFileError(describe(error), where=str(file), mend="run ingest again") from error
    return summary, _load(folder / QUARANTINE_FILE)


def _check_finished(folder: Path) -> None:
    if not (folder / SUMMARY_FILE).is_file():
        raise UnreadableFileError(
            f"not a folder of canonical tables: no {SUMMARY_FILE}",
            where=str(folder),
            mend="run ingest first; what `simulate` wrote has the format 'canonical'",
        )


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
    if not table.schema.equals(SCHEMAS[path.name]):
        raise UnreadableFileError("its columns are not canonical", where=str(path), mend="run ingest again")
    return table
