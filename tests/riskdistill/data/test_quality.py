"""The quality report: each check finds what it is for, in rows that stay, and nothing where nothing is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data import quality
from riskdistill.data.canonical import canonical_table
from riskdistill.data.ingest import ingest
from riskdistill.data.quality import Check, Finding, QualityMeter, QualityReport
from riskdistill.data.quality_page import render

START = datetime(2026, 1, 5, 9, 30, 15, tzinfo=UTC)
NOW = datetime(2026, 7, 1, tzinfo=UTC)


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "tx_id": f"t{number}",
        "timestamp": START + timedelta(seconds=number),
        "sender_account": f"s{number % 5}",
        "sender_bank": "b",
        "receiver_account": f"r{number % 3}",
        "receiver_bank": "b",
        "amount_paid": 10.0 + number,
        "currency_paid": "EUR",
        "amount_received": 10.0 + number,
        "currency_received": "EUR",
        "payment_format": "wire",
        **changes,
    }


def report(rows: list[dict[str, Any]], refused: dict[str, int] | None = None) -> QualityReport:
    meter = QualityMeter(NOW)
    columns = {name: [one.get(name) for one in rows] for name in dict.fromkeys(key for one in rows for key in one)}
    meter.add(canonical_table(columns))
    refused = refused or {}
    return meter.report("file.csv", "x", rows_read=len(rows), out_of_order=0, refused=refused)


def check(found: QualityReport, name: str) -> Check:
    return next(one for one in found.checks if one.name == name)


def finding(found: QualityReport, name: str, begins: str) -> Finding:
    return next(one for one in check(found, name).findings if one.what.startswith(begins))


def suspicious(found: QualityReport) -> list[str]:
    return [one.what for part in found.checks for one in part.findings if one.kind == "suspicious" and one.rows]


def test_nothing_is_suspicious_in_rows_that_are_in_order() -> None:
    found = report([row(number) for number in range(50)])
    assert suspicious(found) == []
    assert (found.accepted, found.quarantined, sum(one.rows for one in found.amounts)) == (50, 0, 50)
    assert [(str(day.day), day.rows, day.unusual) for day in found.days] == [("2026-01-05", 50, False)]


@pytest.mark.parametrize(
    ("changes", "name", "begins"),
    [
        ({"amount_paid": 0.0, "amount_received": 0.0}, "ranges", "nothing was paid"),
        ({"amount_paid": 2e9, "amount_received": 2e9}, "ranges", "more than 1,000,000,000"),
        ({"timestamp": NOW + timedelta(hours=1)}, "clock", "stamped later"),
        ({"timestamp": START - timedelta(days=900)}, "clock", "before "),
        ({"amount_received": 11.0}, "currencies", "paid and received differ"),
        ({"currency_received": "JPY"}, "currencies", "exchanged at more than twice"),
        ({"receiver_account": "s0"}, "self-transfers", "sender and receiver"),
        ({"sender_balance": 5.0}, "balances", "pays more than"),
    ],
)
def test_a_suspicious_row_is_counted_with_its_id(changes: dict[str, Any], name: str, begins: str) -> None:
    found = finding(report([*(row(number) for number in range(1, 40)), row(40, **changes)]), name, begins)
    assert found.rows == 1
    assert found.examples == (() if begins == "before " else ("t40",))


def test_an_exchange_near_the_rate_is_a_fact() -> None:
    found = report([row(0), row(1, amount_received=11.58, currency_received="USD")])
    assert suspicious(found) == []
    assert finding(found, "currencies", "paid in one currency").rows == 1
    paid = finding(found, "currencies", "paid in EUR")
    assert (paid.rows, paid.of) == (2, 2)


def test_a_row_said_twice_is_found_whatever_its_id_and_a_near_one_is_not() -> None:
    same = [row(0), row(0, tx_id="again"), row(0, tx_id="dearer", amount_paid=10.5, amount_received=10.5)]
    found = finding(report(same), "duplicates", "the same time")
    assert (found.rows, found.examples) == (1, ("again",))


def test_the_unit_of_the_clock_is_told() -> None:
    minutes = [row(number, timestamp=START.replace(second=0) + timedelta(minutes=number)) for number in range(4)]
    found = report(minutes)
    whole = {
        name: finding(found, "clock", f"stamped on a whole {name}").rows for name in ("second", "minute", "day")
    }
    assert whole == {"second": 4, "minute": 4, "day": 0}


def test_a_balance_that_does_not_follow_is_found_across_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_ROWS_AT_A_TIME", 2)
    account = {"sender_account": "a", "amount_paid": 10.0, "amount_received": 10.0}
    rows = [row(number, **account, sender_balance=100.0 - 10 * number) for number in range(6)]
    assert suspicious(report(rows)) == []
    rows[4]["sender_balance"] = 1000.0
    rows[5]["sender_balance"] = 990.0  # follows again
    found = finding(report(rows), "balances", "the balance does not follow")
    assert (found.rows, found.of, found.examples) == (1, 5, ("t4",))


def test_without_balances_none_is_checked() -> None:
    assert {one.of for one in check(report([row(0)]), "balances").findings} == {0}


def test_reasons_of_quarantine_stand_with_their_check() -> None:
    refused = {
        "amount_paid is negative": 1,
        "currency_paid is not a known currency": 2,
        "timestamp cannot be read as a time in UTC": 3,
        "tx_id is a duplicate of an earlier row's": 4,
        "row has 2 fields where the header has 3": 5,
        "sender_bank is empty": 6,
    }
    found = report([row(0)], refused)
    counted = {one.name: sum(one.refused.values()) for one in found.checks if one.refused}
    assert counted == {"ranges": 1, "currencies": 2, "clock": 3, "duplicates": 4, "schema": 11}
    assert found.quarantined == 21


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_the_report_does_not_depend_on_the_stretches(sizes: list[int]) -> None:
    rows = [row(number, amount_paid=float(number % 7), amount_received=float(number % 7)) for number in range(60)]
    table = canonical_table({name: [one[name] for one in rows] for name in rows[0]})
    whole, parted = QualityMeter(NOW), QualityMeter(NOW)
    whole.add(table)
    start = 0
    for size in [*sizes, 60]:
        parted.add(table.slice(start, size))
        start += size
    told: dict[str, Any] = {"rows_read": 60, "out_of_order": 3, "refused": {}}
    assert whole.report("f", "x", **told) == parted.report("f", "x", **told)


def test_the_page_stands_alone_and_escapes_what_is_others(tmp_path: Path) -> None:
    rows = [row(number, tx_id=f"<script>{number}", amount_paid=0.0, amount_received=0.0) for number in range(3)]
    page = render(report(rows, {"currency_paid is <b>odd</b>": 2}))
    assert "<script" not in page
    assert "&lt;script&gt;0" in page
    assert "&lt;b&gt;odd" in page
    assert "http" not in page
    assert page.count("<svg") == 2
    for name in ("Schema", "Ranges", "Duplicates", "Clock", "Currencies", "Self-transfers", "Balances", "Volume"):
        assert f"<h2>{name}</h2>" in page


def test_a_long_source_is_drawn_in_few_bars() -> None:
    rows = [
        row(number, timestamp=datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number)) for number in range(1500)
    ]
    page = render(report(rows))
    assert page.count("<rect") < 500
    assert "2020-01-01 to 2020-01-04: 4 transactions" in page


def test_ingest_writes_the_report_of_what_it_kept(tmp_path: Path) -> None:
    table = canonical_table(
        {name: [row(n)[name] for n in range(9)] for name in row(0)} | {"sender_balance": [5.0] * 9}
    )
    backwards = table.take(list(range(8, -1, -1)))
    pq.write_table(backwards, tmp_path / "transactions.parquet")
    ingest(tmp_path, tmp_path / "out", format="canonical")
    found = QualityReport.model_validate_json((tmp_path / "out" / "quality.json").read_text())
    assert (found.rows_read, found.accepted) == (9, 9)
    assert finding(found, "clock", "earlier than").rows == 8
    # balances are looked at in order of time, though the file is not
    assert finding(found, "balances", "the balance does not").examples[0] == "t5"
    assert "Data quality" in (tmp_path / "out" / "quality.html").read_text()


def test_a_nullable_column_is_known_where_it_is() -> None:
    found = report([row(0, sender_country="DE"), row(1, sender_country=None)])
    known = finding(found, "schema", "sender_country")
    assert (known.rows, known.of, known.kind) == (1, 2, "fact")


def test_an_arrow_table_of_several_chunks_is_read_whole() -> None:
    table = canonical_table({name: [row(n)[name] for n in range(4)] for name in row(0)})
    meter = QualityMeter(NOW)
    meter.add(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert meter.report("f", "x", rows_read=4, out_of_order=0, refused={}).accepted == 4
