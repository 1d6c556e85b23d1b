"""Rows from quarantine, corrected by a person and read again.

    export_quarantine(folder, "rows.csv")     the refused rows in the source's own columns, each with its reason
    ...                                       someone corrects them, all or some
    reingest(folder, "rows.csv")              what can be read now moves from quarantine into the tables

A corrected row is read as the source was: by the same reader, with the same mapping, patterns and limit of time,
under its number in the source. So it gets the id and the label that it would have had. It goes to its place in
time, behind the rows of the same time that were there before (or where its content puts it, if the source's clock
is coarse). A row that is still wrong stays in quarantine with its new reason, one that nobody changed as it was.
Rows that are not in quarantine are passed over, so that the same file may be given twice; and the counts of
`ingest.json` still add up to the rows read.

The tables are put together in memory, and appear together or not at all.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from riskdistill.data.columns import pc
from riskdistill.data.ingest import (
    IngestSummary,
    before,
    finish,
    load_canonical,
    load_quarantine,
    load_truth,
    measured_again,
    reason_kind,
    typology_counts,
)
from riskdistill.data.order import time_order
from riskdistill.data.readers import Reader, mapping, reader_beside
from riskdistill.data.readers.canonical import LABELS_FILE, TRANSACTIONS_FILE, TRUTH_FILE
from riskdistill.data.schema import QUARANTINE
from riskdistill.data.source import ROW_NUMBER, open_text
from riskdistill.data.tables import QUARANTINE_FILE, TableWriter, finish_publishing, publish
from riskdistill.data.validate import SHOWN, Batch
from riskdistill.errors import DataError, EmptyInputError, MissingColumnError

REASON: Final = "riskdistill_reason"
LINE: Final = "riskdistill_line"  # of a row that could not be put into columns: the whole of it
Fields = dict[str, str]
Tables = tuple[pa.Table, pa.Table, pa.Table | None]  # transactions, labels, truth


@dataclass(frozen=True)
class Reingested:
    """What became of the rows of a corrected file.

    Attributes:
        summary: of the folder as it is now.
        accepted: rows that moved from quarantine into the tables.
        beyond_until: rows that can be read now and lie at or after the limit of the ingest: they are left out.
        still_wrong: rows that stay in quarantine, with their new reason.
        unchanged: rows that stand in the file as they stand in quarantine, and were not read again.
        passed_over: rows of the file that are not in quarantine (any more).
    """

    summary: IngestSummary
    accepted: int
    beyond_until: int
    still_wrong: int
    unchanged: int
    passed_over: int


def export_quarantine(folder: Path, out: Path) -> int:
    """Write the quarantined rows of the canonical `folder` as CSV, to be corrected; returns how many there are.

    The columns are the row's number in the source, the reason, and the source's own. A line that could not be put
    into columns stands in one of its own, with empty fields to be filled in.

    Raises:
        EmptyInputError: nothing is in quarantine.
        UnreadableFileError: not a folder of canonical tables.
    """
    summary, quarantine = load_quarantine(folder)
    if not quarantine.num_rows:
        raise EmptyInputError("nothing is in quarantine", where=str(folder), mend="there is nothing to correct")
    draft = out.with_name(f".{out.name}.draft")
    out.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("w", encoding="utf-8", newline="") as file:
        names = [ROW_NUMBER, REASON, *summary.columns, LINE]
        writer = csv.DictWriter(file, names, restval="", delimiter=_delimiter(summary))
        writer.writeheader()
        for row in quarantine.to_pylist():
            writer.writerow({ROW_NUMBER: row["source_row"], REASON: row["reason"], **_spelled(row["raw"])})
    os.replace(draft, out)
    return int(quarantine.num_rows)


def reingest(folder: Path, fixed: Path) -> Reingested:
    """Reads the corrected rows of `fixed` into the canonical `folder`.

    Args:
        fixed: what `export_quarantine` wrote, corrected: CSV with the row's number and the source's columns.

    Raises:
        MissingColumnError: the row number, or a column that the source has.
        DataError: a row without a number or of the wrong length, a number that comes twice, or a part of the source
            that is needed and gone; the folder is as it was.
    """
    finish_publishing(folder)
    summary, quarantine = load_quarantine(folder)
    rows = _read_fixed(fixed, summary)
    refused = dict(zip(quarantine["source_row"].to_pylist(), quarantine["raw"].to_pylist(), strict=True))
    waiting = {number: fields for number, fields in rows.items() if number in refused}
    pending = {number: fields for number, fields in waiting.items() if _changed(fields, refused[number])}
    unchanged, passed_over = len(waiting) - len(pending), len(rows) - len(waiting)
    if not pending:
        return Reingested(summary, 0, 0, 0, unchanged, passed_over)
    with tempfile.TemporaryDirectory(prefix=".reingest-", dir=folder) as aside:
        read, file = _reader(summary), Path(aside) / "pending.csv"
        _write_pending(file, pending, summary)
        tables = (*load_canonical(folder), load_truth(folder))
        batch = _without_known_ids(_joined(list(read(file))), tables[0])
        kept = before(batch, summary.until)
        _check_companions(kept, tables)
        rejected = _remaining(quarantine, batch.rejected, pending, refused)
        made = Path(aside) / "made"
        made.mkdir()
        labels = _write(made, tables, kept, rejected, coarse=summary.ties == "content")
        left_out = batch.transactions.num_rows - kept.transactions.num_rows
        now = _summary(summary, kept, labels, rejected, left_out)
        finish(made, now, measured_again(made))
        publish(made, folder)
    accepted, still_wrong = kept.transactions.num_rows, batch.rejected.num_rows
    return Reingested(now, accepted, left_out, still_wrong, unchanged, passed_over)


def _spelled(raw: str) -> Fields:
    """A quarantined row as fields of text; a line that could not be put into columns is the field LINE."""
    fields = {name: "" if value is None else str(value) for name, value in json.loads(raw).items()}
    return {LINE: fields["line"]} if fields.keys() == {"line"} else fields


def _changed(fields: Fields, raw: str) -> bool:
    """Whether a row is written otherwise than it was exported."""
    exported = _spelled(raw)
    return any(exported.get(name, "") != value for name, value in fields.items())


def _delimiter(summary: IngestSummary) -> str:
    return "," if summary.mapping is None else summary.mapping.delimiter


def _reader(summary: IngestSummary) -> Reader:
    if summary.mapping is not None:
        return partial(mapping.read, mapping=summary.mapping)
    return reader_beside(summary.format, Path(summary.source))


def _read_fixed(file: Path, summary: IngestSummary) -> dict[int, Fields]:
    """Row number in the source → the source's columns, as corrected."""
    rows: dict[int, Fields] = {}
    with open_text(file) as lines:
        reader = csv.DictReader(lines, delimiter=_delimiter(summary))
        missing = [name for name in (ROW_NUMBER, *summary.columns) if name not in (reader.fieldnames or ())]
        if missing:
            raise MissingColumnError(
                f"no column {', '.join(map(repr, missing))}",
                where=str(file),
                mend="correct the file that the quarantine was exported to, and keep its columns",
            )
        for row in reader:
            where = f"{file}:{reader.line_num}"
            if None in row or None in row.values():
                raise DataError("not as many fields as the header has", where=where, mend="correct the line")
            if not row[ROW_NUMBER].strip().isdecimal():
                raise DataError(
                    f"{row[ROW_NUMBER][:SHOWN]!r} is no row number", where=where, mend="take it from the export"
                )
            number = int(row[ROW_NUMBER])
            if number in rows:
                raise DataError(f"row {number} comes twice", where=where, mend="keep one of them")
            rows[number] = {name: row[name] for name in summary.columns}
    return rows


def _write_pending(file: Path, pending: dict[int, Fields], summary: IngestSummary) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, [ROW_NUMBER, *summary.columns], delimiter=_delimiter(summary))
        writer.writeheader()
        for number in sorted(pending):
            writer.writerow({ROW_NUMBER: number, **pending[number]})


def _joined(batches: list[Batch]) -> Batch:
    """Several stretches as one; a few corrected rows fit in memory."""
    return Batch(
        transactions=pa.concat_tables(batch.transactions for batch in batches),
        labels=pa.concat_tables(batch.labels for batch in batches),
        rejected=pa.concat_tables(batch.rejected for batch in batches),
        numbers=pa.concat_arrays([pa.array(batch.numbers) for batch in batches]).to_numpy(),
        columns=batches[0].columns,
        truth=pa.concat_tables(batch.truth for batch in batches),
        set_up=sum(batch.set_up for batch in batches),
    )


def _without_known_ids(batch: Batch, accepted: pa.Table) -> Batch:
    """`batch`, with its transactions whose ids are taken set aside."""
    ids = batch.transactions["tx_id"]
    taken = pc.is_in(ids, value_set=accepted["tx_id"].filter(pc.is_in(accepted["tx_id"], value_set=ids)))
    places = pc.indices_nonzero(taken).to_pylist()
    told = [
        {
            "source_row": int(batch.numbers[place]),
            "reason": f"tx_id is a duplicate of an earlier row's: {ids[place].as_py()[:SHOWN]!r}",
            "raw": "{}",  # as all that are still wrong, it gets what the person wrote (see `_remaining`)
        }
        for place in places
    ]
    rejected = pa.concat_tables([batch.rejected, pa.Table.from_pylist(told, schema=QUARANTINE)])
    return replace(batch.only(pc.invert(taken).to_numpy()), rejected=rejected)


def _check_companions(kept: Batch, tables: Tables) -> None:
    """Labels and truth must go with the corrected rows as they do with the others."""
    _, labels, truth = tables
    for name, before_it, added in ((LABELS_FILE, labels, kept.labels), (TRUTH_FILE, truth, kept.truth)):
        has = before_it is not None and before_it.num_rows > 0
        if kept.transactions.num_rows and has != (added.num_rows > 0):
            raise DataError(
                f"the corrected rows have {'no' if has else 'a'} {name} and the others do{'' if has else ' not'}",
                mend="put what lay beside the source back in its place, or ingest it again",
            )


def _remaining(
    quarantine: pa.Table, rejected: pa.Table, pending: dict[int, Fields], refused: dict[int, str]
) -> pa.Table:
    """What stays in quarantine: what nobody touched, and what is still wrong, as it is now written and why."""
    touched = pc.is_in(quarantine["source_row"], value_set=pa.array(list(pending), pa.int64()))
    written = [
        json.dumps(pending[number] | _line(refused[number]), ensure_ascii=False)
        for number in rejected["source_row"].to_pylist()
    ]
    place = QUARANTINE.get_field_index("raw")
    rejected = rejected.set_column(place, QUARANTINE.field(place), pa.array(written, pa.string()))
    return pa.concat_tables([quarantine.filter(pc.invert(touched)), rejected]).sort_by("source_row")


def _line(raw: str) -> Fields:
    """The whole line of a row that could not be put into columns, which is kept as long as it is not right."""
    fields = _spelled(raw)
    return {LINE: fields[LINE]} if LINE in fields else {}


def _write(folder: Path, tables: Tables, kept: Batch, rejected: pa.Table, *, coarse: bool) -> pa.Table:
    """Writes all tables with the rows of `kept` in their places in time; returns the labels."""
    transactions, labels, truth = tables
    merged = pa.concat_tables([transactions, kept.transactions])
    order = time_order(merged, coarse=coarse)
    labels = pa.concat_tables([labels, kept.labels])
    labels = labels.take(order) if labels.num_rows else labels
    with TableWriter(folder) as writer:
        writer.write(TRANSACTIONS_FILE, merged.take(order))
        writer.write(LABELS_FILE, labels)
        if truth is not None:
            writer.write(TRUTH_FILE, pa.concat_tables([truth, kept.truth]).take(order))
        writer.write(QUARANTINE_FILE, rejected)
    return labels


def _summary(was: IngestSummary, kept: Batch, labels: pa.Table, rejected: pa.Table, beyond: int) -> IngestSummary:
    """The counts with the rows that left quarantine; what was said of the source itself stays."""
    times = [time for time in pc.min_max(kept.transactions["timestamp"]).as_py().values() if time is not None]
    reasons = Counter(map(reason_kind, rejected["reason"].to_pylist()))
    return was.model_copy(
        update={
            "accepted": was.accepted + kept.transactions.num_rows,
            "set_up": was.set_up + kept.set_up,
            "beyond_until": was.beyond_until + beyond,
            "quarantined": rejected.num_rows,
            "quarantined_by_reason": dict(reasons.most_common()),
            "positives": pc.sum(labels["is_laundering"]).as_py() or 0,
            "by_typology": dict(sorted(typology_counts(labels).items())),
            "first": min([was.first, *times]),
            "last": max([was.last, *times]),
        }
    )
