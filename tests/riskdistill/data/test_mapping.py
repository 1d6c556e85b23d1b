"""The reader for any file: what a mapping can say, and how its mistakes are told."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from riskdistill.data.readers import reader
from riskdistill.errors import ConfigError, MissingColumnError

BASIC: dict[str, Any] = {
    "columns": {
        "timestamp": "when",
        "sender_account": "from",
        "receiver_account": "to",
        "amount_paid": "sum",
    },
    "constants": {
        "sender_bank": "ours",
        "receiver_bank": "theirs",
        "currency_paid": "EUR",
        "payment_format": "transfer",
    },
}


def read(folder: Path, mapping: dict[str, Any], data: str | pa.Table) -> tuple[list[dict[str, Any]], ...]:
    file = folder / ("x.csv" if isinstance(data, str) else "x.parquet")
    if isinstance(data, str):
        file.write_text(data)
    else:
        pq.write_table(data, file)
    (folder / "map.yaml").write_text(yaml.safe_dump(mapping))
    (batch,) = reader("mapping", folder / "map.yaml")(file)
    return batch.transactions.to_pylist(), batch.labels.to_pylist(), batch.rejected.to_pylist()


def test_what_the_file_does_not_tell_is_filled_in(tmp_path: Path) -> None:
    rows, labels, rejected = read(tmp_path, BASIC, "when,from,to,sum\n2026-01-01T01:00:00+01:00,a,b,5\n")
    assert rows[0]["timestamp"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert rows[0]["tx_id"] == "mapping-1"
    assert (rows[0]["amount_received"], rows[0]["currency_received"]) == (5.0, "EUR")
    assert labels == rejected == []


def test_balances_and_customer_fields_are_read_where_there_are_some(tmp_path: Path) -> None:
    of_accounts = {"sender_balance": "saldo", "receiver_tenure_days": "since", "sender_class": "kind"}
    mapping = BASIC | {"columns": BASIC["columns"] | of_accounts}
    when = "2026-01-01T00:00:00Z,a,b,5"
    data = f"when,from,to,sum,saldo,since,kind\n{when},-3.5,400, pep\n{when},,,\n{when},much,1,1\n{when},1,-1,1\n"
    rows, _, rejected = read(tmp_path, mapping, data)
    assert [[row[name] for name in of_accounts] for row in rows] == [[-3.5, 400.0, "pep"], [None, None, None]]
    assert [row["reason"] for row in rejected] == [
        "sender_balance is not a finite number: 'much'",
        "receiver_tenure_days is negative: '-1'",
    ]


def test_a_naive_time_is_rejected_unless_a_zone_is_declared(tmp_path: Path) -> None:
    data = "when,from,to,sum\n2026-07-01T12:00:00,a,b,5\n"
    assert read(tmp_path, BASIC, data)[2][0]["reason"].startswith("timestamp cannot be read as a time in UTC")
    zoned = BASIC | {"timestamp": {"timezone": "Europe/Berlin"}}
    assert read(tmp_path, zoned, data)[0][0]["timestamp"] == datetime(2026, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spelling", "written"),
    [
        ({"format": "%d.%m.%Y %H:%M", "timezone": "UTC"}, "02.01.2026 03:04"),
        ({"unit": "seconds"}, "1767323040"),
        ({"unit": "milliseconds"}, "1767323040000"),
        ({"unit": "hours", "start": "2026-01-01T00:04:00Z"}, "27"),
    ],
)
def test_times_are_read_as_the_mapping_spells_them(tmp_path: Path, spelling: dict[str, Any], written: str) -> None:
    rows, _, rejected = read(
        tmp_path, BASIC | {"timestamp": spelling}, f"when,from,to,sum\n{written},a,b,5\nlater,a,b,5\n"
    )
    assert [row["timestamp"] for row in rows] == [datetime(2026, 1, 2, 3, 4, tzinfo=UTC)]
    assert rejected[0]["source_row"] == 2


@pytest.mark.parametrize(
    "when",
    [
        pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
        pa.array([datetime(2026, 1, 2)], pa.timestamp("ms")),
        pa.array([date(2026, 1, 2)]),
    ],
)
def test_typed_parquet_times_need_no_spelling(tmp_path: Path, when: pa.Array) -> None:
    table = pa.table({"when": when, "from": [1], "to": [2], "sum": ["7.5"]})
    rows, _, _ = read(tmp_path, BASIC | {"timestamp": {"timezone": "UTC"}}, table)
    assert rows[0]["timestamp"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert (rows[0]["sender_account"], rows[0]["amount_paid"]) == ("1", 7.5)


@pytest.mark.parametrize(
    ("spelling", "written", "coarse"),
    [
        ({}, "2026-01-02T00:00:00Z", False),
        ({"coarse": True}, "2026-01-02T00:00:00Z", True),
        ({"unit": "days"}, "20455", True),
        ({"unit": "minutes"}, "29455200", False),
        ({"format": "%d.%m.%Y", "timezone": "UTC"}, "02.01.2026", True),
        ({"format": "%d.%m.%Y %H:%M", "timezone": "UTC"}, "02.01.2026 00:00", False),
        ({"timezone": "UTC"}, date(2026, 1, 2), True),
    ],
)
def test_times_that_say_no_more_than_the_hour_are_coarse(
    tmp_path: Path, spelling: dict[str, Any], written: str | date, coarse: bool
) -> None:
    pq.write_table(pa.table({"when": [written], "from": ["a"], "to": ["b"], "sum": [5]}), tmp_path / "x.parquet")
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(BASIC | {"timestamp": spelling}))
    (batch,) = reader("mapping", tmp_path / "map.yaml")(tmp_path)
    assert (batch.transactions["timestamp"][0].as_py().day, batch.coarse) == (2, coarse)


def test_labels_ids_and_other_delimiters(tmp_path: Path) -> None:
    more = {"tx_id": "id", "is_laundering": "bad", "typology": "shape", "known_at": "told"}
    mapping = BASIC | {"columns": BASIC["columns"] | more, "delimiter": ";"}
    rows, labels, rejected = read(
        tmp_path,
        mapping,
        "id;when;from;to;sum;bad;shape;told\n"
        "x;2026-01-01T00:00:00Z;a;b;5;yes;Fan-In;2026-02-01T00:00:00Z\n"
        "x;2026-01-01T00:00:00Z;a;b;5;no;;2026-02-01T00:00:00Z\n"
        "y;2026-01-01T00:00:00Z;a;b;5;true;;2026-02-01T00:00:00Z\n",
    )
    assert [row["tx_id"] for row in rows] == ["x", "y"]
    assert [label["typology"] for label in labels] == ["fan_in", "unlisted"]
    assert labels[0]["known_at"] == datetime(2026, 2, 1, tzinfo=UTC)
    assert rejected[0]["reason"] == "tx_id is a duplicate of an earlier row's: 'x'"


def test_a_column_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingColumnError, match="no column 'sum'"):
        read(tmp_path, BASIC, "when,from,to\n1,2,3\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("columns: [", "not YAML"),
        ("", "should be a valid dictionary"),
        ("columns: {timestamp: t}\ncolour: red", "colour: Extra inputs"),
        (
            "columns: {timestamp: t, amount: a}",
            "amount: no such field .*; .*sender_account.*: neither a column",
        ),
        ("columns: {timestamp: t}\nconstants: {tx_id: x}", "tx_id: no constant is possible"),
        ("columns: {timestamp: t}\ntimestamp: {timezone: Mars/Base}", "no time zone 'Mars/Base'"),
        ("columns: {timestamp: t}\ntimestamp: {format: '%Y'}", "a format needs a timezone"),
        ("columns: {timestamp: t, typology: s}", "typology: a label without a column for is_laundering"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong_on_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        reader("mapping", path)
    assert "\n" not in str(caught.value)


def test_an_absent_mapping_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such mapping file"):
        reader("mapping", tmp_path / "absent.yaml")
