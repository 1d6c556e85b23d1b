"""The order of rows: by time; where the clock is coarse, nothing of the file's order is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from riskdistill.data import source
from riskdistill.data.ingest import ingest, load_canonical
from riskdistill.data.order import time_order
from riskdistill.data.schema import ACCOUNT_FIELDS, TRANSACTIONS

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
HEADER = "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud"


def place_within_timestamp(transactions: pa.Table) -> np.ndarray:
    """Of rows in order of time: 0 for the first row of each timestamp, towards 1 for its last."""
    times = transactions["timestamp"].cast(pa.int64()).to_numpy()
    _, first, count = np.unique(times, return_index=True, return_counts=True)
    return (np.arange(len(times)) - np.repeat(first, count) + 0.5) / np.repeat(count, count)


def table(senders: list[str], *, ids: list[str] | None = None, days: list[int] | None = None) -> pa.Table:
    count = len(senders)
    same = {"timestamp": 1_700_000_000_000_000, "amount_paid": 5.0, "amount_received": 5.0}
    columns = {
        field.name: pa.nulls(count, field.type)
        if field.nullable
        else pa.array([same.get(field.name, "EUR")] * count).cast(field.type)
        for field in TRANSACTIONS
    }
    columns["tx_id"] = pa.array(ids or [f"t-{row}" for row in range(count)])
    columns["sender_account"] = pa.array(senders)
    if days is not None:
        columns["timestamp"] = pa.array([day * 86_400_000_000 for day in days]).cast(TRANSACTIONS.field(1).type)
    return pa.table(columns, schema=TRANSACTIONS)


contents = st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.sampled_from([1, 2.5, 1e9]), st.booleans())


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(contents, min_size=1, max_size=40, unique_by=lambda row: row[:3]), data=st.data())
def test_a_coarse_source_gives_the_same_tables_in_whatever_order_it_lists_its_rows(
    rows: list[tuple[int, str, float, bool]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("order")
    made = []
    for order in (rows, data.draw(st.permutations(rows))):
        lines = [f"{step},TRANSFER,{amount},{who},0,0,z,0,0,{int(fraud)}" for step, who, amount, fraud in order]
        (folder / "log.csv").write_text("\n".join([HEADER, *lines]) + "\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source, "_BLOCK_BYTES", 128)
            assert ingest(folder / "log.csv", folder / "out", format="paysim").ties == "content"
        made.append([part.drop_columns(["tx_id"]) for part in load_canonical(folder / "out")])
    assert made[0] == made[1]


def test_labels_go_with_their_rows(tmp_path: Path) -> None:
    lines = [f"1,TRANSFER,{amount},a,0,0,b,0,0,{int(amount > 30)}" for amount in range(1, 41)]
    (tmp_path / "log.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    ingest(tmp_path / "log.csv", tmp_path / "out", format="paysim")
    transactions, labels = load_canonical(tmp_path / "out")
    amounts = transactions["amount_paid"].to_numpy()
    assert labels["tx_id"].equals(transactions["tx_id"])
    assert labels["is_laundering"].to_pylist() == (amounts > 30).tolist()
    assert amounts.tolist() != sorted(amounts.tolist())


def test_rows_that_say_the_same_do_not_keep_the_order_of_the_file_either() -> None:
    order = time_order(table(["a"] * 2000), coarse=True)
    listed_late = order >= 1000
    assert roc_auc_score(listed_late, np.arange(2000)) == pytest.approx(0.5, abs=0.05)


def test_what_is_known_of_the_accounts_moves_no_row() -> None:
    plain = table([f"account {row}" for row in range(200)])
    known = plain
    for name in ACCOUNT_FIELDS:
        place = TRANSACTIONS.get_field_index(name)
        known = known.set_column(
            place, TRANSACTIONS.field(place), pa.array(range(200)).cast(known.schema.types[place])
        )
    places = time_order(plain, coarse=True)
    assert places.tolist() == time_order(known, coarse=True).tolist()
    assert places.tolist() == time_order(plain.drop_columns([*ACCOUNT_FIELDS]), coarse=True).tolist()
    assert places[:8].tolist() == [140, 125, 78, 54, 170, 82, 47, 35]  # as before there were such columns


def test_a_payment_that_comes_every_day_has_another_place_each_day() -> None:
    days = 200
    daily = table(["habit", "other"] * days, days=[day for day in range(days) for _ in range(2)])
    first = daily["sender_account"].take(time_order(daily, coarse=True)[::2]).to_pylist().count("habit")
    assert 70 < first < 130


@pytest.mark.parametrize("coarse", [False, True])
def test_time_comes_first_and_an_empty_table_has_an_empty_order(coarse: bool) -> None:
    backwards = table(list("abc"), days=[3, 2, 1])
    assert time_order(backwards, coarse=coarse).tolist() == [2, 1, 0]
    assert time_order(backwards.slice(0, 0), coarse=coarse).tolist() == []


def test_a_fine_clock_keeps_the_order_of_arrival() -> None:
    assert time_order(table(list("zyxa")), coarse=False).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "folder", "ties"),
    [
        ("amlgentex", "amlgentex-5k", "content"),
        ("amlsim", "amlsim-10k", "content"),
        ("amlworld", "amlworld-hard", "source order"),
    ],
)
def test_in_real_sets_the_place_within_a_timestamp_does_not_tell_the_label(
    tmp_path: Path, name: str, folder: str, ties: str
) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the real set {folder} is not beside the repository in ../shared/data")
    assert ingest(SHARED / folder, tmp_path, format=name).ties == ties
    transactions, labels = load_canonical(tmp_path)
    place = place_within_timestamp(transactions)
    assert roc_auc_score(labels["is_laundering"].to_numpy(), place) == pytest.approx(0.5, abs=0.02)
