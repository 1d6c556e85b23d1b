"""Re-ingest: a corrected source ends as if it had been right, whatever was wrong, and counts stay true."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.data.ingest import IngestSummary, ingest, load_canonical, load_truth
from riskdistill.data.quality import QualityReport
from riskdistill.data.reingest import LINE, REASON, export_quarantine, reingest
from riskdistill.data.schema import LABELS, TRANSACTIONS
from riskdistill.data.source import ROW_NUMBER
from riskdistill.errors import DataError, EmptyInputError, MissingColumnError, UnreadableFileError

HEADER = (
    "Timestamp,From Bank,Account,To Bank,Account,Amount Received,Receiving Currency,Amount Paid,Payment Currency,"
    "Payment Format,Is Laundering"
)
NAMES = HEADER.replace("To Bank,Account", "To Bank,Account.1").split(",")
Edit = Callable[[dict[str, str]], dict[str, str]]


def line(minute: int, **changes: str) -> list[str]:
    fields = dict(
        zip(
            NAMES,
            [f"2022/09/01 00:{minute:02d}", "01", "8A", "02", "8B", "5.00", "Euro", "5.00", "Euro", "ACH", "1"],
            strict=True,
        )
    )
    return list((fields | changes).values())


def amlworld(folder: Path, lines: list[list[str]], listed: int = 0) -> Path:
    """A file in AMLworld's format, whose patterns list its first `listed` rows as they should be."""
    folder.mkdir(exist_ok=True)
    file = folder / "T_Trans.csv"
    file.write_text("\n".join([HEADER, *(",".join(fields) for fields in lines)]) + "\n")
    patterns = [",".join(line(minute)) for minute in range(listed)]
    told = ["BEGIN LAUNDERING ATTEMPT - FAN-IN:  Max", *patterns, "END LAUNDERING ATTEMPT - FAN-IN"]
    (folder / "T_Patterns.txt").write_text("\n".join(told) + "\n")
    return file


def edited(file: Path, edit: Edit) -> Path:
    """The exported file with every row put through `edit`."""
    with file.open(newline="") as lines:
        reader = csv.DictReader(lines)
        rows, names = list(reader), reader.fieldnames
    assert names is not None
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(edit(row) for row in rows)
    return file


def exported(folder: Path, edit: Edit) -> Path:
    out = folder.parent / "rows.csv"
    export_quarantine(folder, out)
    return edited(out, edit)


def righted(fields: dict[str, str]) -> dict[str, str]:
    return fields | dict(zip(NAMES, line(int(fields[ROW_NUMBER]) - 1), strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_counts(folder: Path) -> IngestSummary:
    summary = IngestSummary.model_validate_json((folder / "ingest.json").read_text())
    transactions, labels = load_canonical(folder)
    quarantine = pq.read_table(folder / "quarantine.parquet")
    assert (transactions.num_rows, quarantine.num_rows) == (summary.accepted, summary.quarantined)
    assert labels.num_rows == 0 or labels["tx_id"].equals(transactions["tx_id"])
    assert summary.rows_read == summary.accepted + summary.quarantined + summary.set_up + summary.beyond_until
    assert sum(summary.quarantined_by_reason.values()) == summary.quarantined
    report = QualityReport.model_validate_json((folder / "quality.json").read_text())
    assert (report.accepted, report.quarantined) == (summary.accepted, summary.quarantined)
    return summary


faults = st.sampled_from(
    [
        {"Amount Paid": "n/a"},
        {"Timestamp": "2022/13/01 00:00"},
        {"Payment Currency": "Doubloon"},
        {"Account": ""},
        {"Is Laundering": "?"},
        {"Is Laundering": "1,2"},  # a field too many
        None,
    ]
)


@settings(max_examples=40)
@given(spoiled=st.lists(faults, min_size=2, max_size=12))
def test_a_corrected_source_ends_as_if_it_had_been_right(
    spoiled: list[dict[str, str] | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("reingest")
    spoiled[0] = None  # something must be usable
    rows = [line(minute, **(fault or {})) for minute, fault in enumerate(spoiled)]
    right = [line(minute) for minute in range(len(spoiled))]
    ingest(amlworld(folder / "right", right, listed=5), folder / "expected", format="amlworld")
    ingest(amlworld(folder / "wrong", rows, listed=5), folder / "out", format="amlworld")
    bad = sum(fault is not None for fault in spoiled)
    if bad:
        fixed = exported(folder / "out", righted)
        done = reingest(folder / "out", fixed)
        assert (done.accepted, done.still_wrong, done.unchanged, done.passed_over) == (bad, 0, 0, 0)
        assert check_counts(folder / "out") == done.summary
        now = contents(folder / "out")
        again = reingest(folder / "out", fixed)
        assert (again.accepted, again.passed_over, again.summary) == (0, bad, done.summary)
        assert contents(folder / "out") == now
    assert load_canonical(folder / "out") == load_canonical(folder / "expected")
    summary, expected = check_counts(folder / "out"), check_counts(folder / "expected")
    assert summary.model_copy(update={"source": expected.source}) == expected


def test_what_is_still_wrong_stays_with_its_new_reason_and_what_nobody_touched_as_it_was(tmp_path: Path) -> None:
    rows = [line(0), line(1, Account=""), line(2, Account=""), line(3)[:-1], line(4)[:-1]]
    ingest(amlworld(tmp_path / "in", rows), tmp_path / "out", format="amlworld")
    before = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()

    def edit(fields: dict[str, str]) -> dict[str, str]:
        changed = {"2": {"Account": "8A", "Amount Paid": "five"}, "4": {"Account": "8A"}}
        return fields | changed.get(fields[ROW_NUMBER], {})

    fixed = exported(tmp_path / "out", edit)
    done = reingest(tmp_path / "out", fixed)
    assert (done.accepted, done.still_wrong, done.unchanged) == (0, 2, 2)
    after = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert [one["source_row"] for one in after] == [2, 3, 4, 5]
    assert after[0]["reason"] == "amount_paid is not a number: 'five'"
    assert (after[1], after[3]) == (before[1], before[3])
    check_counts(tmp_path / "out")
    # the line that was no row is exported again, beside what the person had made of it
    export_quarantine(tmp_path / "out", fixed)
    with fixed.open(newline="") as lines:
        third = list(csv.DictReader(lines))[2]
    assert (third["Account"], third[LINE]) == ("8A", ",".join(line(3)[:-1]))
    assert third[REASON].startswith("sender_bank is empty") or third[REASON].startswith("receiver_")


def test_a_row_after_the_limit_of_the_ingest_is_counted_and_left_out(tmp_path: Path) -> None:
    limit = datetime(2022, 9, 1, 0, 2, tzinfo=UTC)
    rows = [line(0), line(1, Account=""), line(2, Account=""), line(3)]
    ingest(amlworld(tmp_path / "in", rows), tmp_path / "out", format="amlworld", until=limit)
    done = reingest(tmp_path / "out", exported(tmp_path / "out", righted))
    assert (done.accepted, done.beyond_until, done.summary.beyond_until) == (1, 1, 2)
    check_counts(tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        (f"{ROW_NUMBER},Timestamp\n2,x\n", MissingColumnError, "no column 'From Bank'"),
        (f"{','.join([ROW_NUMBER, *NAMES])}\nx,{','.join(line(1))}\n", DataError, "'x' is no row number"),
        (f"{','.join([ROW_NUMBER, *NAMES])}\n2,{','.join(line(1))},9\n", DataError, "as many fields"),
        (f"{','.join([ROW_NUMBER, *NAMES])}\n2,{','.join(line(1)[:-1])}\n", DataError, "as many fields"),
        (f"{','.join([ROW_NUMBER, *NAMES])}\n" + 2 * f"2,{','.join(line(1))}\n", DataError, "row 2 comes twice"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    tmp_path: Path, text: str, error: type[DataError], told: str
) -> None:
    ingest(amlworld(tmp_path / "in", [line(0), line(1, Account="")]), tmp_path / "out", format="amlworld")
    before = contents(tmp_path / "out")
    (tmp_path / "fixed.csv").write_text(text)
    with pytest.raises(error, match=told):
        reingest(tmp_path / "out", tmp_path / "fixed.csv")
    assert contents(tmp_path / "out") == before


def test_a_source_whose_patterns_are_gone_is_asked_for(tmp_path: Path) -> None:
    source = amlworld(tmp_path / "in", [line(0), line(1, Account="")])
    ingest(source, tmp_path / "out", format="amlworld")
    fixed, before = exported(tmp_path / "out", righted), contents(tmp_path / "out")
    source.unlink()
    with pytest.raises(UnreadableFileError, match="no such file or folder"):
        reingest(tmp_path / "out", fixed)
    assert contents(tmp_path / "out") == before


def test_without_a_quarantine_there_is_nothing_to_export(tmp_path: Path) -> None:
    ingest(amlworld(tmp_path / "in", [line(0)]), tmp_path / "out", format="amlworld")
    with pytest.raises(EmptyInputError, match="nothing is in quarantine"):
        export_quarantine(tmp_path / "out", tmp_path / "rows.csv")
    with pytest.raises(UnreadableFileError, match="run ingest first"):
        reingest(tmp_path, tmp_path / "rows.csv")


def canonical(folder: Path, rows: int, **wrong: Any) -> Path:
    """A simulated folder with truth, whose third row is wrong."""
    folder.mkdir()
    start = datetime(2026, 1, 5, 9, tzinfo=UTC)
    payments = [
        {
            "tx_id": f"t{number}",
            "timestamp": start + timedelta(hours=number),
            **{f"sender_{what}": "a" for what in ("account", "bank")},
            **{f"receiver_{what}": "b" for what in ("account", "bank")},
            **{f"amount_{side}": 1.5 for side in ("paid", "received")},
            **{f"currency_{side}": "EUR" for side in ("paid", "received")},
            "payment_format": "wire",
            "sender_balance": 7.25,
        }
        for number in range(rows)
    ]
    known = [
        {
            "tx_id": f"t{number}",
            "is_laundering": number == 2,
            "typology": "cycle" if number == 2 else "normal",
            "scheme_id": "S" if number == 2 else None,
            "known_at": start + timedelta(days=number),
        }
        for number in range(rows)
    ]
    unreported = [one | {"is_laundering": False, "typology": "normal", "scheme_id": None} for one in known]
    payments[2] |= wrong
    pq.write_table(pa.Table.from_pylist(payments, schema=TRANSACTIONS), folder / "transactions.parquet")
    pq.write_table(pa.Table.from_pylist(unreported, schema=LABELS), folder / "labels.parquet")
    pq.write_table(pa.Table.from_pylist(known, schema=LABELS), folder / "truth.parquet")
    return folder


def test_labels_and_truth_beside_the_source_go_with_a_corrected_row(tmp_path: Path) -> None:
    ingest(canonical(tmp_path / "right", 5), tmp_path / "expected", format="canonical")
    ingest(canonical(tmp_path / "in", 5, currency_paid="EURO"), tmp_path / "out", format="canonical")
    fixed = exported(tmp_path / "out", lambda fields: fields | {"currency_paid": "EUR"})
    assert reingest(tmp_path / "out", fixed).accepted == 1
    assert load_canonical(tmp_path / "out") == load_canonical(tmp_path / "expected")
    truth = load_truth(tmp_path / "out")
    assert truth is not None
    assert truth == load_truth(tmp_path / "expected")
    assert truth["typology"].to_pylist()[2] == "cycle"


def test_truth_that_is_gone_is_asked_for(tmp_path: Path) -> None:
    source = canonical(tmp_path / "in", 5, currency_paid="EURO")
    ingest(source, tmp_path / "out", format="canonical")
    fixed = exported(tmp_path / "out", lambda fields: fields | {"currency_paid": "EUR"})
    (source / "truth.parquet").unlink()
    with pytest.raises(DataError, match=r"no truth\.parquet and the others do"):
        reingest(tmp_path / "out", fixed)
    check_counts(tmp_path / "out")


def test_a_source_that_needs_nothing_beside_it_may_be_gone(tmp_path: Path) -> None:
    source = canonical(tmp_path / "in", 5, currency_paid="EURO")
    (source / "truth.parquet").unlink()
    ingest(source, tmp_path / "out", format="canonical")
    fixed = exported(tmp_path / "out", lambda fields: fields | {"currency_paid": "EUR"})
    shutil.rmtree(source)
    assert reingest(tmp_path / "out", fixed).accepted == 1
    assert load_truth(tmp_path / "out") is None
    check_counts(tmp_path / "out")


def test_a_folder_of_an_older_version_is_to_be_ingested_again(tmp_path: Path) -> None:
    ingest(amlworld(tmp_path / "in", [line(0), line(1, Account="")]), tmp_path / "out", format="amlworld")
    summary = json.loads((tmp_path / "out" / "ingest.json").read_text())
    del summary["columns"]
    (tmp_path / "out" / "ingest.json").write_text(json.dumps(summary))
    with pytest.raises(UnreadableFileError, match="columns: Field required"):
        export_quarantine(tmp_path / "out", tmp_path / "rows.csv")


def test_an_id_that_is_taken_stays_in_quarantine(tmp_path: Path) -> None:
    ingest(canonical(tmp_path / "in", 5, currency_paid="EURO"), tmp_path / "out", format="canonical")
    fixed = exported(tmp_path / "out", lambda fields: fields | {"currency_paid": "EUR", "tx_id": "t1"})
    done = reingest(tmp_path / "out", fixed)
    assert (done.accepted, done.still_wrong) == (0, 1)
    assert done.summary.quarantined_by_reason == {"tx_id is a duplicate of an earlier row's": 1}
    assert '"tx_id": "t1"' in pq.read_table(tmp_path / "out" / "quarantine.parquet")["raw"][0].as_py()


def test_rows_of_a_mapping_are_read_by_the_same_mapping(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "columns: {timestamp: at, sender_account: f, receiver_account: t, amount_paid: a}\n"
        "constants: {sender_bank: b, receiver_bank: b, currency_paid: EUR, payment_format: x}\n"
        "timestamp: {format: '%d.%m.%Y', timezone: Europe/Berlin}\ndelimiter: ';'\n"
    )
    (tmp_path / "x.csv").write_text("at;f;t;a\n03.01.2026;p;q;1\n02.01.2026;p;q;two\n01.01.2026;p;q;3\n")
    ingest(tmp_path / "x.csv", tmp_path / "out", format="mapping", mapping=tmp_path / "map.yaml")
    (tmp_path / "map.yaml").unlink()
    export_quarantine(tmp_path / "out", tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text()
    (tmp_path / "rows.csv").write_text(text.replace("q;two", "q;2"))
    assert reingest(tmp_path / "out", tmp_path / "rows.csv").accepted == 1
    transactions, labels = load_canonical(tmp_path / "out")
    assert transactions["amount_paid"].to_pylist() == [3.0, 2.0, 1.0]
    assert labels.num_rows == 0
    assert check_counts(tmp_path / "out").ties == "content"
