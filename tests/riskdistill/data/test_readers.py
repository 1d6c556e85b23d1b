"""Each format on a slice of its own columns, and on the real sets where they are at hand."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from riskdistill.data.readers import FORMATS, READERS, reader
from riskdistill.data.schema import ACCOUNT_FIELDS, LABELS, QUARANTINE, TRANSACTIONS
from riskdistill.data.transaction import transactions_from
from riskdistill.data.validate import Batch
from riskdistill.errors import ConfigError, MissingColumnError, UnknownFormatError, UnreadableFileError

AMLWORLD = """\
Timestamp,From Bank,Account,To Bank,Account,Amount Received,Receiving Currency,\
Amount Paid,Payment Currency,Payment Format,Is Laundering
2022/09/01 00:06,21174,800737690,12,80011F990,2848.96,Euro,2848.96,Euro,ACH,1
2022-09-01 00:06:00,21174,800737690,12,80011F990,2848.96,Euro,2848.96,Euro,ACH,1
2022-09-01 00:06:00,021174,800737690,012,80011F990,2848.96,Euro,2848.96,Euro,ACH,1
2022-09-01 00:07:00,0,A,0,A,7,Bitcoin,8,US Dollar,Cheque,0
2022-09-01 00:08:00,1,A,2,B,7,Gold,8,US Dollar,Cheque,0
2022-09-01 00:09:00,1,A,2,B,7,Euro,-8,US Dollar,Cheque,0
2022-09-01 00:10:00,1,A,2,B,seven,Euro,8,US Dollar,Cheque,0
soon,1,A,2,B,7,Euro,8,US Dollar,Cheque,0
2022-09-01 00:10:00,1,A,2,B,7,Euro,8,US Dollar,Cheque,maybe
2022-09-01 00:10:00,1,A,2
2022-09-01 00:11:00,1,A,,B,7,Euro,8,US Dollar,Cheque,0
"""
AMLWORLD_PATTERNS = """\
BEGIN LAUNDERING ATTEMPT - GATHER-SCATTER:  Max 16-degree Fan-Out
2022/09/01 00:06,021174,800737690,012,80011F990,2848.96,Euro,2848.96,Euro,ACH,1
END LAUNDERING ATTEMPT - GATHER-SCATTER

BEGIN LAUNDERING ATTEMPT - STACK
2022/09/01 00:06,021174,800737690,012,80011F990,2848.96,Euro,2848.96,Euro,ACH,1
END LAUNDERING ATTEMPT - STACK
"""
SAML_D = """\
Time,Date,Sender_account,Receiver_account,Amount,Payment_currency,Received_currency,\
Sender_bank_location,Receiver_bank_location,Payment_type,Is_laundering,Laundering_type
10:35:19,2022-10-07,8724731955,2769355426,1459.15,UK pounds,UK pounds,UK,UK,ACH,0,Normal_Cash_Deposits
10:35:20,2022-10-07,1491989064,8401255335,100,Euro,US dollar,Spain,UAE,Cross-border,1,Gather-Scatter
10:35:20,2022-10-07,1491989064,8401255335,100,Euro,Euro,Atlantis,UAE,Cross-border,0,Normal_Fan_In
"""
PAYSIM = """\
step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,isFlaggedFraud
1,PAYMENT,9839.64,C1,170136.0,160296.36,M1,0.0,0.0,0,0
25,TRANSFER,181.0,C2,181.0,0.0,C3,0.0,0.0,1,0
26,CASH_IN,50,C4,0,50,M2,100,50,0,0
x,CASH_IN,50,C4,0,50,M2,100,50,0,0
"""
AMLSIM = """\
tran_id,orig_acct,bene_acct,tx_type,base_amt,tran_timestamp,is_sar,alert_id
1,10,11,TRANSFER,123.45,2017-01-01T00:00:00Z,False,-1
2,11,12,TRANSFER,99,2017-01-03T00:00:00Z,True,7
2,11,12,TRANSFER,99,2017-01-03T00:00:00Z,True,7
3,11,12,TRANSFER,99,2017-01-03T00:00:00,True,7
"""


def whole(batches: Iterator[Batch]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Transactions, labels and reasons; what every reader promises is checked on the way."""
    made = list(batches)
    for batch in made:
        assert batch.transactions.schema == TRANSACTIONS
        assert batch.labels.schema == LABELS
        assert batch.rejected.schema == QUARANTINE
        assert len(list(transactions_from(batch.transactions))) == batch.transactions.num_rows
        if batch.labels.num_rows:
            assert batch.labels["tx_id"].equals(batch.transactions["tx_id"])
    return (
        [row for batch in made for row in batch.transactions.to_pylist()],
        [row for batch in made for row in batch.labels.to_pylist()],
        [row["reason"] for batch in made for row in batch.rejected.to_pylist()],
    )


def test_amlworld_matches_each_listing_once_and_says_why_rows_fail(tmp_path: Path) -> None:
    (tmp_path / "HI_Trans.csv.gz").write_bytes(gzip.compress(AMLWORLD.encode()))
    (tmp_path / "HI_Patterns.txt").write_text(AMLWORLD_PATTERNS)
    rows, labels, reasons = whole(reader("amlworld")(tmp_path))
    assert [row["tx_id"] for row in rows] == ["amlworld-1", "amlworld-2", "amlworld-3", "amlworld-4"]
    assert [(row["sender_bank"], row["receiver_bank"]) for row in rows] == [("21174", "12")] * 3 + [("0", "0")]
    assert rows[3]["currency_received"] == "XBT"
    assert (rows[3]["amount_received"], rows[3]["amount_paid"]) == (7.0, 8.0)
    assert rows[0]["timestamp"] == datetime(2022, 9, 1, 0, 6, tzinfo=UTC)
    assert [(label["typology"], label["scheme_id"]) for label in labels] == [
        ("gather_scatter", "gather_scatter-1"),
        ("stack", "stack-2"),
        ("unlisted", None),
        ("normal", None),
    ]
    assert reasons == [
        "currency_received is not a known currency: 'Gold'",
        "amount_paid is negative: '-8'",
        "amount_received is not a number: 'seven'",
        "timestamp cannot be read as a time in UTC: 'soon'",
        "is_laundering is neither yes nor no: 'maybe'",
        "row has 4 fields where the header has 11: '2022-09-01 00:10:00,1,A,2'",
        "receiver_bank is empty: ''",
    ]


def test_amlworld_without_patterns_leaves_laundering_unlisted(tmp_path: Path) -> None:
    (tmp_path / "HI_Trans.csv").write_text(AMLWORLD)
    _, labels, _ = whole(reader("amlworld")(tmp_path / "HI_Trans.csv"))
    assert [label["typology"] for label in labels] == ["unlisted", "unlisted", "unlisted", "normal"]


def test_amlworld_names_the_line_of_a_damaged_patterns_file(tmp_path: Path) -> None:
    (tmp_path / "HI_Trans.csv").write_text(AMLWORLD)
    (tmp_path / "HI_Patterns.txt").write_text("BEGIN LAUNDERING ATTEMPT - STACK\n2022/09/01,what\n")
    with pytest.raises(UnreadableFileError, match=r"HI_Patterns\.txt:2: not a transaction"):
        list(reader("amlworld")(tmp_path))


def test_amlworld_names_a_patterns_file_that_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "HI_Trans.csv").write_text(AMLWORLD)
    (tmp_path / "HI_Patterns.txt.gz").write_bytes(gzip.compress(AMLWORLD_PATTERNS.encode())[:-20])
    with pytest.raises(UnreadableFileError, match=r"HI_Patterns\.txt\.gz: "):
        list(reader("amlworld")(tmp_path))


def test_saml_d_gives_countries_codes_and_exchanges_at_fixed_rates(tmp_path: Path) -> None:
    (tmp_path / "SAML-D.csv").write_text(SAML_D)
    rows, labels, reasons = whole(reader("saml-d")(tmp_path))
    assert (rows[0]["sender_country"], rows[1]["receiver_country"]) == ("GB", "AE")
    assert rows[0]["amount_received"] == rows[0]["amount_paid"] == 1459.15
    assert (rows[1]["currency_paid"], rows[1]["currency_received"]) == ("EUR", "USD")
    assert rows[1]["amount_received"] == pytest.approx(105.3)
    assert rows[1]["timestamp"] == datetime(2022, 10, 7, 10, 35, 20, tzinfo=UTC)
    assert [label["typology"] for label in labels] == ["normal", "gather_scatter"]
    assert reasons == ["sender_country is not an ISO 3166 code of two capitals: 'Atlantis'"]


def test_paysim_counts_hours_and_lets_cash_flow_in(tmp_path: Path) -> None:
    (tmp_path / "PS_1_log.csv").write_text(PAYSIM)
    rows, labels, reasons = whole(reader("paysim")(tmp_path))
    assert rows[1]["timestamp"] == datetime(2017, 1, 2, 1, tzinfo=UTC)
    assert [(row["sender_account"], row["receiver_account"]) for row in rows] == [
        ("C1", "M1"),
        ("C2", "C3"),
        ("M2", "C4"),
    ]
    assert [label["typology"] for label in labels] == ["normal", "unlisted", "normal"]
    assert {row[name] for row in rows for name in ACCOUNT_FIELDS} == {None}  # balances tell the file's order
    assert reasons == ["timestamp cannot be read as a time in UTC: 'x'"]


def test_amlsim_published_form_takes_shapes_and_banks_from_its_other_tables(tmp_path: Path) -> None:
    (tmp_path / "transactions.csv").write_text(AMLSIM)
    (tmp_path / "alerts.csv").write_text("alert_id,alert_type,is_sar,tran_id\n7,fan_in,True,2\n")
    (tmp_path / "accounts.csv").write_text("acct_id,bank_id\n10,bank_a\n12,bank_b\n")
    rows, labels, reasons = whole(reader("amlsim")(tmp_path))
    assert [(row["tx_id"], row["sender_bank"], row["receiver_bank"]) for row in rows] == [
        ("1", "bank_a", "bank"),
        ("2", "bank", "bank_b"),
    ]
    assert [(label["typology"], label["scheme_id"]) for label in labels] == [
        ("normal", None),
        ("fan_in", "7"),
    ]
    assert reasons == [
        "tx_id is a duplicate of an earlier row's: '2'",
        "timestamp cannot be read as a time in UTC: '2017-01-03T00:00:00'; "
        "add a UTC offset, e.g. 2026-01-01T00:00:00Z",
    ]


def test_amlsim_published_form_stands_alone_too(tmp_path: Path) -> None:
    (tmp_path / "transactions.csv").write_text(AMLSIM)
    rows, labels, _ = whole(reader("amlsim")(tmp_path))
    assert {row["sender_bank"] for row in rows} == {"bank"}
    assert [label["typology"] for label in labels] == ["normal", "unlisted"]


def test_amlsim_log_form_counts_days(tmp_path: Path) -> None:
    log = "step,type,amount,nameOrig,nameDest,isSAR,alertID\n0,TRANSFER,5,1,2,0,-1\n31,TRANSFER,5,1,2,1,4\n"
    (tmp_path / "tx_log.csv").write_text(log)
    rows, labels, _ = whole(reader("amlsim")(tmp_path))
    assert rows[1]["timestamp"] == datetime(2017, 2, 1, tzinfo=UTC)
    assert (labels[1]["typology"], labels[1]["scheme_id"]) == ("unlisted", "4")


def test_amlgentex_leaves_set_up_rows_out_and_counts_them(tmp_path: Path) -> None:
    table = {
        "step": [0, 0, 1, 1],
        "type": ["INITALBALANCE", "TRANSFER", "CASH", "TRANSFER"],
        "amount": [100.0, 1.0, 2.0, -1.0],
        "nameOrig": [-2, 1, 2, 3],
        "nameDest": [0, -1, 1, 4],
        "bankOrig": ["source", "bank_a", "bank_b", "bank_b"],
        "bankDest": ["bank_a", "sink", "bank_a", "bank_b"],
        "isSAR": [0, 0, 1, 0],
        "patternID": [-1, 5, 9, -1],
        "typology": ["generic", "fan_out", "sar_fan_out", "generic"],
    }
    pq.write_table(pa.table(table), tmp_path / "tx_log_full.parquet")
    batches = list(reader("amlgentex")(tmp_path))
    rows, labels, reasons = whole(iter(batches))
    assert sum(batch.set_up for batch in batches) == 1
    assert [row["tx_id"] for row in rows] == ["amlgentex-2", "amlgentex-3"]
    assert (rows[0]["receiver_account"], rows[0]["receiver_bank"]) == ("-1", "sink")
    assert [(label["typology"], label["scheme_id"]) for label in labels] == [
        ("normal", None),
        ("fan_out", "9"),
    ]
    assert reasons == ["amount_paid is negative: '-1.0'"]


def test_amlgentex_knows_customers_and_not_the_outside_world_nor_the_simulations_clock(tmp_path: Path) -> None:
    table = {
        "step": [3, 3, 4],
        "type": ["TRANSFER", "CASH", "TRANSFER"],
        "amount": [1.0, 2.0, 3.0],
        "nameOrig": [1, -2, 1],
        "nameDest": [2, 1, -1],
        "bankOrig": ["bank_a", "source", "bank_a"],
        "bankDest": ["bank_b", "bank_a", "sink"],
        "daysInBankOrig": [90, 0, 91],
        "daysInBankDest": [4, 90, 0],  # the first receiver is there from the first day: nothing is known
        "phoneChangesOrig": [0, 0, 1],
        "phoneChangesDest": [2, 0, 0],
        "oldbalanceOrig": [5.0, 6.0, 7.0],
        "oldbalanceDest": [5.0, 6.0, 7.0],
        "isSAR": [0, 0, 0],
        "patternID": [-1, -1, -1],
        "typology": ["generic", "generic", "generic"],
    }
    pq.write_table(pa.table(table), tmp_path / "tx_log_full.parquet")
    rows, _, reasons = whole(reader("amlgentex")(tmp_path))
    assert reasons == []
    assert {name: [row[name] for row in rows] for name in ACCOUNT_FIELDS} == {
        "sender_balance": [None, None, None],
        "receiver_balance": [None, None, None],
        "sender_tenure_days": [90.0, None, 91.0],
        "receiver_tenure_days": [None, 90.0, None],
        "sender_contact_changes": [0.0, None, 1.0],
        "receiver_contact_changes": [2.0, 0.0, None],
        "sender_class": [None, None, None],
        "receiver_class": [None, None, None],
    }


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_reader_names_the_columns_that_a_file_lacks(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MissingColumnError, match="the file has 'a', 'b'"):
        list(reader(name)(tmp_path / "x.csv"))


def test_an_unknown_format_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UnknownFormatError, match="no format 'amlwrld'") as caught:
        reader("amlwrld")
    assert caught.value.mend.startswith("use one of: amlworld, ")
    assert all(name in caught.value.mend for name in FORMATS)


def test_a_mapping_file_belongs_to_the_format_mapping_alone() -> None:
    with pytest.raises(ConfigError, match="needs a mapping file"):
        reader("mapping")
    with pytest.raises(ConfigError, match="names its own columns"):
        reader("paysim", Path("x.yaml"))
