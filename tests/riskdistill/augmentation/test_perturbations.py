"""The battery that every perturbation passes, and what is particular to each."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from augmentation_histories import START, UNTIL, histories, seeds
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.augmentation import PERTURBATIONS, perturb, sources
from riskdistill.augmentation.rows import aligned
from riskdistill.data.canonical import canonical_table
from riskdistill.data.schema import ACCOUNT_FIELDS, LABELS, MAX_AMOUNT, TRANSACTIONS
from riskdistill.errors import ConfigError, DataError

NAMES = sorted(PERTURBATIONS)
Row = dict[str, Any]
History = tuple[pa.Table, pa.Table]


def conserving(promise: str) -> list[str]:
    return [name for name in NAMES if promise in PERTURBATIONS[name].conserves]


def applied(name: str, history: History, seed: int) -> tuple[pa.Table, pa.Table]:
    transactions, labels = history
    labels = aligned(transactions, labels)
    return PERTURBATIONS[name](name=name).apply(transactions, labels, np.random.default_rng(seed))


def by_source(new: pa.Table) -> dict[str, list[Row]]:
    told: dict[str, list[Row]] = defaultdict(list)
    for source, row in zip(sources(new), new.to_pylist(), strict=True):
        told[source].append(row)
    return told


def by_id(table: pa.Table) -> dict[str, Row]:
    return {row["tx_id"]: row for row in table.to_pylist()}


def sender(row: Row) -> tuple[str, str]:
    return row["sender_bank"], row["sender_account"]


def receiver(row: Row) -> tuple[str, str]:
    return row["receiver_bank"], row["receiver_account"]


@pytest.mark.parametrize("name", NAMES)
@given(history=histories(), seed=seeds)
def test_new_rows_are_canonical_with_unique_new_ids_and_their_labels(
    name: str, history: History, seed: int
) -> None:
    new, labels = applied(name, history, seed)
    assert (new.schema, labels.schema) == (TRANSACTIONS, LABELS)
    new.validate(full=True)
    labels.validate(full=True)
    ids = new["tx_id"].to_pylist()
    assert labels["tx_id"].to_pylist() == ids
    assert len(set(ids)) == len(ids)
    assert set(ids).isdisjoint(history[0]["tx_id"].to_pylist())
    assert set(sources(new)) == set(history[0]["tx_id"].to_pylist())
    for row, label in zip(new.to_pylist(), labels.to_pylist(), strict=True):
        assert sender(row) != receiver(row)
        assert 0 < row["amount_paid"] <= MAX_AMOUNT
        assert 0 < row["amount_received"] <= MAX_AMOUNT
        assert label["known_at"] >= row["timestamp"]


@pytest.mark.parametrize("name", NAMES)
@given(history=histories(), seed=seeds)
def test_what_is_known_of_accounts_stays_known_and_true(name: str, history: History, seed: int) -> None:
    new, _ = applied(name, history, seed)
    assert canonical_table(new) == new  # numbers in their ranges
    for field in ACCOUNT_FIELDS:
        assert new[field].null_count == (0 if new.num_rows and history[0][field][0].is_valid else new.num_rows)
    for row in new.to_pylist():
        for side in ("sender", "receiver"):
            if row[f"{side}_tenure_days"] is not None and not row[f"{side}_account"].endswith("~between"):
                account = float(row[f"{side}_account"][1:])
                assert row[f"{side}_tenure_days"] == (row["timestamp"] - START).days + account + 0.25
                assert row[f"{side}_contact_changes"] == account


@given(history=histories(), seed=seeds)
def test_balances_move_with_the_parts_of_a_payment(history: History, seed: int) -> None:
    old = by_id(history[0])
    for source, rows in by_source(applied("split", history, seed)[0]).items():
        paid, received = 0.0, 0.0
        for row in sorted(rows, key=lambda row: row["timestamp"]):
            if row["sender_balance"] is not None:
                spent, grown = old[source]["sender_balance"] - paid, old[source]["receiver_balance"] + received
                assert row["sender_balance"] == pytest.approx(max(spent, -MAX_AMOUNT), rel=1e-9, abs=1e-6)
                assert row["receiver_balance"] == pytest.approx(min(grown, MAX_AMOUNT), rel=1e-9, abs=1e-6)
            paid, received = paid + row["amount_paid"], received + row["amount_received"]


@given(history=histories(), seed=seeds)
def test_who_stands_between_can_pay_on_what_arrived(history: History, seed: int) -> None:
    for rows in by_source(applied("intermediary", history, seed)[0]).values():
        into, out = rows
        if into["receiver_balance"] is not None:
            has = into["receiver_balance"] + into["amount_received"]
            assert out["sender_balance"] == min(has, MAX_AMOUNT)


@given(history=histories(), seed=seeds)
def test_jitter_keeps_the_share_of_the_balance_that_is_paid(history: History, seed: int) -> None:
    old = by_id(history[0])
    for source, (row,) in by_source(applied("amount_jitter", history, seed)[0]).items():
        was = old[source]
        if was["sender_balance"] is not None and was["amount_paid"] > 100:
            factor = row["amount_paid"] / was["amount_paid"]
            assert row["sender_balance"] == pytest.approx(was["sender_balance"] * factor, rel=1e-3, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
@given(history=histories(), seed=seeds)
def test_the_label_is_kept_as_declared(name: str, history: History, seed: int) -> None:
    assert PERTURBATIONS[name].effect == "keeps"
    new, labels = applied(name, history, seed)
    old = by_id(history[1])
    for source, label in zip(sources(new), labels.to_pylist(), strict=True):
        for column in ("is_laundering", "typology"):
            assert label[column] == old[source][column]
        scheme = old[source]["scheme_id"]
        assert label["scheme_id"] == (scheme and f"{scheme}~{name}")


@pytest.mark.parametrize("name", conserving("count"))
@given(history=histories(), seed=seeds)
def test_count_is_conserved(name: str, history: History, seed: int) -> None:
    new, _ = applied(name, history, seed)
    assert sorted(sources(new)) == sorted(history[0]["tx_id"].to_pylist())


@pytest.mark.parametrize("name", conserving("accounts"))
@given(history=histories(), seed=seeds)
def test_accounts_are_conserved(name: str, history: History, seed: int) -> None:
    new, _ = applied(name, history, seed)
    old = by_id(history[0])
    for source, rows in by_source(new).items():
        assert {(sender(row), receiver(row)) for row in rows} == {(sender(old[source]), receiver(old[source]))}


@pytest.mark.parametrize("name", conserving("amount"))
@given(history=histories(), seed=seeds)
def test_money_is_conserved_to_the_cent(name: str, history: History, seed: int) -> None:
    new, _ = applied(name, history, seed)
    old = by_id(history[0])
    for source, rows in by_source(new).items():
        was = old[source]
        paid = sum(row["amount_paid"] for row in rows if sender(row) == sender(was))
        received = sum(row["amount_received"] for row in rows if receiver(row) == receiver(was))
        assert abs(paid - was["amount_paid"]) < 0.005
        assert abs(received - was["amount_received"]) < 0.005
        between = {receiver(row) for row in rows} - {receiver(was)}
        for account in between:
            into = [(r["amount_received"], r["currency_received"]) for r in rows if receiver(r) == account]
            out = [(r["amount_paid"], r["currency_paid"]) for r in rows if sender(r) == account]
            assert into == out


@pytest.mark.parametrize("name", conserving("time_order"))
@given(history=histories(), seed=seeds)
def test_order_inside_a_scheme_is_conserved(name: str, history: History, seed: int) -> None:
    new, labels = applied(name, history, seed)
    schemes: dict[str, dict[str, list[datetime]]] = defaultdict(lambda: defaultdict(list))
    for source, row, label in zip(sources(new), new.to_pylist(), labels.to_pylist(), strict=True):
        if label["scheme_id"]:
            schemes[label["scheme_id"]][source].append(row["timestamp"])
    old = by_id(history[0])
    for told in schemes.values():
        order = sorted(told, key=lambda source: old[source]["timestamp"])
        for earlier, later in pairwise(order):
            if old[earlier]["timestamp"] < old[later]["timestamp"]:
                assert max(told[earlier]) <= min(told[later])


@pytest.mark.parametrize("name", NAMES)
@given(history=histories(), seed=seeds, share=st.floats(0.01, 1))
def test_nothing_is_placed_outside_the_training_period(
    name: str, history: History, seed: int, share: float
) -> None:
    config = [{"name": name, "share": share, "among": "all"}]
    new, labels = perturb(*history, config, np.random.default_rng(seed), UNTIL)
    times = new["timestamp"].to_pylist()
    assert times == sorted(times)
    assert all(START <= time < UNTIL for time in times)
    assert labels["tx_id"].to_pylist() == new["tx_id"].to_pylist()


@given(history=histories(), seed=seeds)
def test_all_together_give_unique_ids_the_same_for_the_same_seed(history: History, seed: int) -> None:
    config = [{"name": name, "share": 0.7} for name in NAMES]
    first = perturb(*history, config, np.random.default_rng(seed), UNTIL)
    second = perturb(*history, config, np.random.default_rng(seed), UNTIL)
    assert first[0].equals(second[0])
    assert first[1].equals(second[1])
    ids = first[0]["tx_id"].to_pylist()
    assert len(set(ids)) == len(ids)


@given(history=histories(), seed=seeds)
def test_a_scheme_is_perturbed_whole_or_not_at_all(history: History, seed: int) -> None:
    config = [{"name": "amount_jitter", "share": 0.5, "among": "laundering"}]
    new, labels = perturb(*history, config, np.random.default_rng(seed), UNTIL)
    assert all(labels["is_laundering"].to_pylist())
    times = {row["tx_id"]: row["timestamp"] for row in history[0].to_pylist()}
    chosen = {source: label["scheme_id"] for source, label in zip(sources(new), labels.to_pylist(), strict=True)}
    for label in history[1].to_pylist():
        if label["scheme_id"] and times[label["tx_id"]] < UNTIL:
            told = f"{label['scheme_id']}~amount_jitter" in chosen.values()
            assert (label["tx_id"] in chosen) == told


@given(history=histories(), seed=seeds)
def test_jitter_keeps_its_bound_and_the_rate_between_the_amounts(history: History, seed: int) -> None:
    new, _ = applied("amount_jitter", history, seed)
    old = by_id(history[0])
    for source, (row,) in by_source(new).items():
        was = old[source]
        for column in ("amount_paid", "amount_received"):
            assert abs(row[column] - was[column]) <= 0.05 * was[column] * (1 + 1e-9) + 0.0051
        ratio = row["amount_paid"] / was["amount_paid"] * was["amount_received"]
        slack = 0.0051 * (1 + was["amount_received"] / was["amount_paid"]) + 1e-9 * ratio
        assert abs(row["amount_received"] - ratio) <= slack


@given(history=histories(), seed=seeds)
def test_burst_repeats_a_scheme_inside_the_time_that_it_took(history: History, seed: int) -> None:
    new, labels = applied("frequency_burst", history, seed)
    old, spans = by_id(history[0]), defaultdict(list)
    for label in history[1].to_pylist():
        spans[label["scheme_id"]].append(old[label["tx_id"]]["timestamp"])
    for label, row in zip(labels.to_pylist(), new.to_pylist(), strict=True):
        times = spans[label["scheme_id"] and label["scheme_id"].split("~")[0]]
        if label["scheme_id"] and min(times) < max(times):
            assert min(times) <= row["timestamp"] <= max(times)
    assert all(len(rows) == 2 for rows in by_source(new).values())


@given(history=histories(), seed=seeds)
def test_delay_and_split_stay_within_their_bounds(history: History, seed: int) -> None:
    old = by_id(history[0])
    for name, hours, most in (("delay", 48, 1), ("split", 24, 4), ("intermediary", 24, 2)):
        new, _ = applied(name, history, seed)
        for source, rows in by_source(new).items():
            assert len(rows) <= most
            for row in rows:
                late = row["timestamp"] - old[source]["timestamp"]
                assert timedelta(0) <= late <= timedelta(hours=hours)


def test_an_intermediary_is_a_new_account_where_no_other_is_known() -> None:
    history = pa.Table.from_pylist([_payment("T0")], TRANSACTIONS), _label("T0")
    new, _ = applied("intermediary", history, 1)
    first, second = sorted(new.to_pylist(), key=lambda row: row["timestamp"])
    assert receiver(first) == sender(second)
    assert receiver(first) not in {("B", "A1"), ("B", "A2")}


def test_rows_whose_id_leaves_no_room_are_passed_over() -> None:
    history = pa.Table.from_pylist([_payment("T" * 120)], TRANSACTIONS), _label("T" * 120)
    new, _ = perturb(*history, [{"name": "delay", "share": 1}], np.random.default_rng(0), UNTIL)
    assert new.num_rows == 0


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ([{"name": "jiggle"}], "unknown perturbation 'jiggle'"),
        ([{"share": 0.1}], "unknown perturbation None"),
        ([{"name": "delay"}, {"name": "delay"}], "named 2 times"),
        ([{"name": "delay", "max_hours": -1}], "max_hours"),
        ([{"name": "split", "min_parts": 5, "max_parts": 3}], "max_parts"),
        ([{"name": "amount_jitter", "share": 2}], "share"),
        ([{"name": "amount_jitter", "bond": 0.1}], "bond"),
    ],
)
def test_a_wrong_configuration_is_refused(config: list[Row], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        perturb(TRANSACTIONS.empty_table(), LABELS.empty_table(), config, np.random.default_rng(0), UNTIL)


def test_an_end_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="time zone"):
        perturb(
            TRANSACTIONS.empty_table(),
            LABELS.empty_table(),
            [],
            np.random.default_rng(0),
            UNTIL.replace(tzinfo=None),
        )


def test_a_transaction_without_a_label_is_refused() -> None:
    transactions = pa.Table.from_pylist([_payment("T0")], TRANSACTIONS)
    with pytest.raises(DataError, match="T0"):
        perturb(transactions, LABELS.empty_table(), [], np.random.default_rng(0), UNTIL)


def _payment(tx_id: str) -> Row:
    return {
        "tx_id": tx_id,
        "timestamp": START,
        "sender_account": "A1",
        "sender_bank": "B",
        "receiver_account": "A2",
        "receiver_bank": "B",
        "amount_paid": 10.0,
        "currency_paid": "EUR",
        "amount_received": 10.0,
        "currency_received": "EUR",
        "payment_format": "wire",
        "sender_country": None,
        "receiver_country": None,
    }


def _label(tx_id: str) -> pa.Table:
    row = {"tx_id": tx_id, "is_laundering": True, "typology": "cycle", "scheme_id": None, "known_at": START}
    return pa.Table.from_pylist([row], LABELS)
