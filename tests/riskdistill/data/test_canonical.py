"""Canonical files: what `simulate` writes comes back as it was, and what users bring is checked as any source."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from riskdistill.data.ingest import ingest, load_canonical, load_truth, read_transactions
from riskdistill.data.readers import reader
from riskdistill.data.schema import LABELS, TRANSACTIONS
from riskdistill.errors import DataError, MissingColumnError, UnreadableFileError

START = datetime(2026, 1, 1, tzinfo=UTC)


def transactions(*minutes: int) -> pa.Table:
    rows = [
        {
            "tx_id": f"t{number}",
            "timestamp": START + timedelta(minutes=minute),
            "sender_account": "a",
            "sender_bank": "b",
            "receiver_account": "é, x",
            "receiver_bank": "b",
            "amount_paid": 0.1 + number,
            "currency_paid": "EUR",
            "amount_received": 2.0,
            "currency_received": "USD",
            "payment_format": "wire",
            "sender_country": "DE",
            "receiver_country": None,
        }
        for number, minute in enumerate(minutes)
    ]
    return pa.Table.from_pylist(rows, schema=TRANSACTIONS)


def labels(table: pa.Table, laundering: set[str]) -> pa.Table:
    rows = [
        {
            "tx_id": one,
            "is_laundering": one in laundering,
            "typology": "fan_in" if one in laundering else "normal",
            "scheme_id": "S1" if one in laundering else None,
            "known_at": START + timedelta(days=9),
        }
        for one in table["tx_id"].to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)


def lay(made: pa.Table, known: pa.Table, folder: Path) -> None:
    """Transactions, and labels beside them, as a source leaves them."""
    folder.mkdir(exist_ok=True)
    pq.write_table(made, folder / "transactions.parquet")
    pq.write_table(known, folder / "labels.parquet")


def test_what_was_simulated_comes_back_as_it_was(tmp_path: Path) -> None:
    made = transactions(0, 1, 1, 2)
    known = labels(made, {"t2"})
    lay(made, known, tmp_path / "simulated")
    summary = ingest(tmp_path / "simulated", tmp_path / "out", format="canonical")
    assert (summary.positives, summary.quarantined, summary.ties) == (1, 0, "source order")
    assert load_canonical(tmp_path / "out") == (made, known)


def test_labels_are_matched_by_id_whatever_their_order(tmp_path: Path) -> None:
    made = transactions(0, 1, 2)
    known = labels(made, {"t1"})
    lay(made, known.take([2, 0, 1]), tmp_path)
    (batch,) = reader("canonical")(tmp_path)
    assert batch.labels == known


def test_a_transaction_without_a_label_beside_labelled_ones_is_set_aside(tmp_path: Path) -> None:
    made = transactions(0, 1)
    lay(made, labels(made, {"t0"}).slice(0, 1), tmp_path)
    (batch,) = reader("canonical")(tmp_path)
    assert batch.transactions["tx_id"].to_pylist() == batch.labels["tx_id"].to_pylist() == ["t0"]
    assert batch.rejected["reason"].to_pylist() == ["is_laundering is neither yes nor no: ''"]


def test_no_labels_are_no_labels(tmp_path: Path) -> None:
    lay(transactions(0), LABELS.empty_table(), tmp_path)
    (batch,) = reader("canonical")(tmp_path)
    assert batch.transactions == transactions(0)
    assert batch.labels == LABELS.empty_table()


def test_truth_beside_the_transactions_goes_with_them_and_never_into_labels(tmp_path: Path) -> None:
    made = transactions(3, 0, 2, 1)
    known, truth = labels(made, {"t1"}), labels(made, {"t0", "t1", "t2"})
    lay(made, known, tmp_path)
    pq.write_table(truth.take([2, 0, 1, 3]), tmp_path / "truth.parquet")
    (batch,) = reader("canonical")(tmp_path)
    assert (batch.labels, batch.truth) == (known, truth)
    assert ingest(tmp_path, tmp_path / "out", format="canonical").positives == 1
    order = [1, 3, 2, 0]
    assert load_canonical(tmp_path / "out") == (made.take(order), known.take(order))
    assert load_truth(tmp_path / "out") == truth.take(order)
    assert ingest(tmp_path / "out", tmp_path / "again", format="canonical").accepted == 4
    assert load_truth(tmp_path / "again") == truth.take(order)


def test_truth_follows_the_limit_of_time(tmp_path: Path) -> None:
    made = transactions(0, 1, 2)
    lay(made, labels(made, set()), tmp_path)
    pq.write_table(labels(made, {"t0", "t2"}), tmp_path / "truth.parquet")
    ingest(tmp_path, tmp_path / "out", format="canonical", until=START + timedelta(minutes=2))
    assert load_truth(tmp_path / "out") == labels(made, {"t0"}).slice(0, 2)


def test_a_source_without_truth_has_none(tmp_path: Path) -> None:
    lay(transactions(0), LABELS.empty_table(), tmp_path)
    ingest(tmp_path, tmp_path / "out", format="canonical")
    assert load_truth(tmp_path / "out") is None
    (tmp_path / "out" / "truth.parquet").unlink()  # as an older version would have left the folder
    assert load_truth(tmp_path / "out") is None
    with pytest.raises(UnreadableFileError, match="run ingest first"):
        load_truth(tmp_path)


def test_a_transaction_whose_truth_is_missing_is_set_aside_and_odd_truth_refused(tmp_path: Path) -> None:
    made = transactions(0, 1)
    lay(made, labels(made, set()), tmp_path)
    pq.write_table(labels(made, set()).slice(0, 1), tmp_path / "truth.parquet")
    (batch,) = reader("canonical")(tmp_path)
    assert batch.transactions["tx_id"].to_pylist() == batch.truth["tx_id"].to_pylist() == ["t0"]
    assert batch.rejected["reason"].to_pylist() == ["tx_id has no truth: 't1'"]
    odd = labels(made, set())
    odd = odd.set_column(1, "is_laundering", pa.array(["no", "yes"]))
    pq.write_table(odd, tmp_path / "truth.parquet")
    with pytest.raises(DataError, match="not of the types of labels") as caught:
        list(reader("canonical")(tmp_path))
    assert caught.value.where.endswith("truth.parquet")


@pytest.mark.parametrize(
    ("known", "error", "told"),
    [
        (labels(transactions(0), set()).drop_columns(["known_at"]), MissingColumnError, "no column 'known_at'"),
        (pa.concat_tables([labels(transactions(0), set())] * 2), DataError, "a transaction has several labels"),
        (None, UnreadableFileError, "magic bytes|Parquet"),
    ],
)
def test_labels_that_cannot_be_used_are_one_error_that_names_their_file(
    tmp_path: Path, known: pa.Table | None, error: type[DataError], told: str
) -> None:
    lay(transactions(0), known if known is not None else LABELS.empty_table(), tmp_path)
    if known is None:
        (tmp_path / "labels.parquet").write_bytes(b"x" * 20)
    with pytest.raises(error, match=told) as caught:
        list(reader("canonical")(tmp_path))
    assert caught.value.where.endswith("labels.parquet")


@pytest.mark.parametrize("writer", ["pandas", "pyarrow", "pandas, gzipped"])
def test_csv_gives_the_same_tables_as_parquet(tmp_path: Path, writer: str) -> None:
    made = transactions(0, 1)
    known = labels(made, {"t1"})
    both = made
    for name in ("is_laundering", "typology", "scheme_id", "known_at"):
        both = both.append_column(name, known[name])
    file = tmp_path / "payments.csv"
    if writer == "pyarrow":
        pacsv.write_csv(both, file)
    else:
        both.to_pandas().to_csv(file, index=False)
    if writer == "pandas, gzipped":
        file.write_bytes(gzip.compress(file.read_bytes()))
    (batch,) = reader("canonical")(file)
    assert (batch.transactions, batch.labels) == (made, known)


def as_csv(folder: Path, changes: list[dict[str, Any]]) -> Path:
    frame = transactions(*range(len(changes))).to_pandas().astype(object)
    frame["timestamp"] = [f"2026-01-01T00:0{row}:00Z" for row in range(len(changes))]
    for row, change in enumerate(changes):
        for name, value in change.items():
            frame.loc[row, name] = value
    frame.to_csv(folder / "payments.csv", index=False)
    return folder / "payments.csv"


def test_rows_that_are_not_valid_are_set_aside_with_what_to_do(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"timestamp": "2026-01-01T00:00:00"},
        {"currency_paid": "EURO"},
        {"amount_paid": -1},
        {"tx_id": "t0"},
        {"timestamp": "2026-01-01T00:00:00+01:00"},
    ]
    kept, rejected = read_transactions(as_csv(tmp_path, changes))
    assert kept["tx_id"].to_pylist() == ["t5", "t0"]
    assert rejected.select(["source_row", "reason"]).to_pylist() == [
        {
            "source_row": 2,
            "reason": "timestamp cannot be read as a time in UTC: '2026-01-01T00:00:00'; "
            "add a UTC offset, e.g. 2026-01-01T00:00:00Z",
        },
        {"source_row": 3, "reason": "currency_paid is not a known currency: 'EURO'; did you mean EUR?"},
        {"source_row": 4, "reason": "amount_paid is negative: '-1'"},
        {"source_row": 5, "reason": "tx_id is a duplicate of an earlier row's: 't0'"},
    ]


def test_a_naive_parquet_column_is_set_aside_too(tmp_path: Path) -> None:
    made = transactions(0)
    naive = made.set_column(1, "timestamp", made["timestamp"].cast(pa.timestamp("us")))
    pq.write_table(naive, tmp_path / "x.parquet")
    kept, rejected = read_transactions(tmp_path / "x.parquet")
    assert kept == TRANSACTIONS.empty_table()
    assert rejected["reason"][0].as_py().endswith("add a UTC offset, e.g. 2026-01-01T00:00:00Z")


def test_transactions_come_in_order_of_time_and_arrival(tmp_path: Path) -> None:
    pq.write_table(transactions(5, 3, 5, 3, 1), tmp_path / "transactions.parquet")
    kept, rejected = read_transactions(tmp_path)
    assert kept["tx_id"].to_pylist() == ["t4", "t1", "t3", "t0", "t2"]
    assert (kept.schema, rejected.num_rows) == (TRANSACTIONS, 0)


def test_scoring_does_not_look_at_labels_or_at_other_columns(tmp_path: Path) -> None:
    file = as_csv(tmp_path, [{"is_laundering": "perhaps", "known_at": "never", "note": "x"}])
    assert read_transactions(file)[0] == transactions(0)
    assert next(iter(reader("canonical")(file))).transactions.num_rows == 0


def test_what_is_known_of_the_accounts_is_optional_and_other_columns_are_not(tmp_path: Path) -> None:
    frame = pd.read_csv(as_csv(tmp_path, [{"sender_balance": -1.5}]))
    assert read_transactions(tmp_path / "payments.csv")[0]["sender_balance"].to_pylist() == [-1.5]
    optional = [field.name for field in TRANSACTIONS if field.nullable]
    frame.drop(columns=optional).to_csv(tmp_path / "few.csv", index=False)
    few = read_transactions(tmp_path / "few.csv")[0]
    assert few.select(optional).to_pylist() == [dict.fromkeys(optional)]
    frame.drop(columns=["tx_id", "payment_format"]).to_csv(tmp_path / "fewer.csv", index=False)
    with pytest.raises(MissingColumnError, match="no column 'tx_id', 'payment_format'"):
        read_transactions(tmp_path / "fewer.csv")
    frame.assign(typology="fan_in").to_csv(tmp_path / "half.csv", index=False)
    with pytest.raises(MissingColumnError, match="no column 'is_laundering'"):
        list(reader("canonical")(tmp_path / "half.csv"))
