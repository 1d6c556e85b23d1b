"""What is particular to each perturbation; what holds of all is in `test_every_perturbation`."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import numpy as np
import pytest
from augmentation_histories import START, UNTIL, histories, seeds
from hypothesis import given
from retellings import (
    History,
    Row,
    applied,
    by_id,
    by_source,
    by_story,
    history_of,
    payment,
    receiver,
    retold,
    sender,
)

from riskdistill.augmentation import perturb, sources
from riskdistill.data.schema import LABELS, MAX_AMOUNT, NORMAL, TRANSACTIONS
from riskdistill.errors import ConfigError, DataError


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


@given(history=histories(), seed=seeds)
def test_a_scheme_is_perturbed_whole_or_not_at_all(history: History, seed: int) -> None:
    config = [{"name": "amount_jitter", "share": 0.5, "among": "laundering"}]
    made = perturb(*history, config, np.random.default_rng(seed), UNTIL)
    new, labels = made.transactions, made.labels
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


@pytest.mark.parametrize(
    ("name", "bounds"), [("time_shift", {"max_hours": 5.0}), ("reorder", {"tolerance_hours": 30.0})]
)
@given(history=histories(), seed=seeds)
def test_no_payment_moves_further_than_allowed(
    name: str, bounds: dict[str, float], history: History, seed: int
) -> None:
    old = by_id(history[0])
    (hours,) = bounds.values()
    for source, rows in by_source(applied(name, history, seed, **bounds)[0]).items():
        for row in rows:
            assert abs(row["timestamp"] - old[source]["timestamp"]) <= timedelta(hours=hours)


def brought(rows: list[Row]) -> list[tuple[float, float]]:
    """For each row what its sender and its receiver got from the rows before it, less what they paid; slowly."""
    found = []
    for at, row in enumerate(rows):
        before = [o for n, o in enumerate(rows) if (o["timestamp"], n) < (row["timestamp"], at)]
        sums = []
        for account in ((sender(row), row["currency_paid"]), (receiver(row), row["currency_received"])):
            got = sum(o["amount_received"] for o in before if (receiver(o), o["currency_received"]) == account)
            sums.append(got - sum(o["amount_paid"] for o in before if (sender(o), o["currency_paid"]) == account))
        found.append((sums[0], sums[1]))
    return found


@pytest.mark.parametrize("name", ["dropped_events", "merge", "reorder"])
@given(history=histories(), seed=seeds)
def test_balances_follow_what_now_came_before(name: str, history: History, seed: int) -> None:
    for rows, pairs in retold(name, history, seed):
        was = dict(zip((row["tx_id"] for row in rows), brought(rows), strict=True))
        now = brought([row for _, row in pairs])
        for (source, row), after in zip(pairs, now, strict=True):
            for at, side in enumerate(("sender_balance", "receiver_balance")):
                if row[side] is not None:
                    wanted = source[side] + after[at] - was[source["tx_id"]][at]
                    assert row[side] == pytest.approx(np.clip(wanted, -MAX_AMOUNT, MAX_AMOUNT), rel=1e-9, abs=0.05)


@given(history=histories(), seed=seeds)
def test_merging_leaves_fewer_payments_each_at_the_time_of_its_last(history: History, seed: int) -> None:
    for rows, pairs in retold("merge", history, seed):
        assert len(pairs) < len(rows)
        assert all(row["timestamp"] == was["timestamp"] for was, row in pairs)


def test_payments_of_one_pair_are_merged_within_the_bounds() -> None:
    hours = (0, 1, 2, 3, 100)
    scheme = [payment(f"T{i}", START + timedelta(hours=hour)) for i, hour in enumerate(hours)]
    new, _ = applied("merge", history_of(scheme), 1, most=3, within_hours=24.0)
    assert new["tx_id"].to_pylist() == ["T2~merge0", "T3~merge0", "T4~merge0"]
    assert new["amount_paid"].to_pylist() == new["amount_received"].to_pylist() == [30.0, 10.0, 10.0]


def test_ordinary_payments_of_one_pair_are_merged_apart_from_its_laundering() -> None:
    minutes = [START + timedelta(minutes=minute) for minute in range(4)]
    scheme, ordinary = payment("S0", minutes[1]), [payment(f"N{i}", minutes[i]) for i in (0, 2, 3)]
    history = history_of([scheme], ordinary)
    made = perturb(*history, [{"name": "merge", "share": 1}], np.random.default_rng(0), UNTIL)
    assert made.transactions["amount_paid"].to_pylist() == [30.0]
    assert made.replaced.to_pylist() == ["N0", "N2", "N3"]
    assert made.labels["is_laundering"].to_pylist() == [False]


@pytest.mark.parametrize("said", [{"payment_format": "card"}, {"payer": "A3"}, {"payee": "A3"}])
def test_unlike_payments_are_not_merged(said: Row) -> None:
    scheme = [payment("T0"), payment("T1", START + timedelta(hours=1), **said)]
    assert applied("merge", history_of(scheme), 1)[0].num_rows == 0


def test_money_that_was_paid_on_in_between_is_not_put_off_by_merging() -> None:
    first, on, second = (START + timedelta(hours=hour) for hour in range(3))
    scheme = [payment("T0", first), payment("T1", on, "A2", "A3"), payment("T2", second)]
    assert applied("merge", history_of(scheme), 1)[0].num_rows == 0


@given(history=histories(), seed=seeds)
def test_as_many_payments_are_dropped_as_allowed_and_at_least_one(history: History, seed: int) -> None:
    told = retold("dropped_events", history, seed, most=0.5)
    assert len(told) == sum(len(rows) > 1 for rows in by_story("dropped_events", history))
    for rows, pairs in told:
        assert 1 <= len(rows) - len(pairs) <= max(1, len(rows) // 2)
        for was, row in pairs:
            same = [name for name in row if name not in ("tx_id", "sender_balance", "receiver_balance")]
            assert [row[name] for name in same] == [was[name] for name in same]


@given(history=histories(), seed=seeds)
def test_other_ordinary_accounts_of_the_same_currency_stand_in_for_some(history: History, seed: int) -> None:
    labels = by_id(history[1])
    ordinary = [row for row in history[0].to_pylist() if not labels[row["tx_id"]]["is_laundering"]]
    strangers = {account(row) for row in ordinary for account in (sender, receiver)}
    for rows, pairs in retold("counterparty_substitution", history, seed, most=0.5):
        own = {account(row) for row in rows for account in (sender, receiver)}
        new = {account(row) for _, row in pairs for account in (sender, receiver)} - own
        assert 1 <= len(new) <= max(1, len(own) // 2)
        assert new <= strangers
        assert all(row["amount_paid"] == was["amount_paid"] for was, row in pairs)
        for _, row in pairs:  # account k holds the currency k modulo 3
            for (_, account), currency in ((sender(row), "currency_paid"), (receiver(row), "currency_received")):
                assert row[currency] == ("USD", "EUR", "XBT")[int(account[1:]) % 3]


@given(history=histories(), seed=seeds)
def test_a_new_currency_is_in_use_and_replaces_one_of_the_story(history: History, seed: int) -> None:
    labels = by_id(history[1])
    ordinary = [row for row in history[0].to_pylist() if not labels[row["tx_id"]]["is_laundering"]]
    in_use = {row[f"currency_{word}"] for row in ordinary for word in ("paid", "received")}
    for rows, pairs in retold("currency_change", history, seed):
        own = {row[f"currency_{word}"] for row in rows for word in ("paid", "received")}
        words = ("currency_paid", "currency_received")
        moved = {(was[word], row[word]) for was, row in pairs for word in words}
        ((old, new),) = [(old, new) for old, new in moved if old != new]
        assert old == rows[0]["currency_paid"]
        assert new in in_use - own
        assert all(now == was for was, now in moved if was != old)


def test_a_payment_in_another_currency_has_the_same_value_and_share_of_the_balance() -> None:
    rich = {"sender_balance": 1000.0, "receiver_balance": 5.0}
    dollars = {"currency_paid": "USD", "currency_received": "USD"}
    history = history_of([payment("T0", **rich)], [payment("N0", payer="N1", payee="N2", **dollars)])
    new, labels = applied("currency_change", history, 1)
    (row,) = (row for row, label in zip(new.to_pylist(), labels.to_pylist(), strict=True) if label["scheme_id"])
    assert (row["currency_paid"], row["amount_paid"], row["amount_received"]) == ("USD", 10.53, 10.53)
    assert (row["sender_balance"], row["receiver_balance"]) == (1053.0, pytest.approx(5.265, abs=0.006))


@given(history=histories(), seed=seeds)
def test_a_new_channel_is_in_use_between_such_parties(history: History, seed: int) -> None:
    def relation(row: Row) -> tuple[object, ...]:
        same = [
            None not in both and both[0] == both[1]
            for word in ("bank", "country")
            if (both := (row[f"sender_{word}"], row[f"receiver_{word}"]))
        ]
        return row["currency_paid"], row["currency_received"], *same

    labels = by_id(history[1])
    in_use = defaultdict(set)
    for row in history[0].to_pylist():
        if not labels[row["tx_id"]]["is_laundering"]:
            in_use[relation(row)].add(row["payment_format"])
    for _, pairs in retold("channel_change", history, seed):
        changed = [(was, row) for was, row in pairs if row["payment_format"] != was["payment_format"]]
        assert changed
        assert all(row["payment_format"] in in_use[relation(was)] for was, row in changed)


@given(history=histories(), seed=seeds)
def test_noise_is_an_ordinary_payment_with_an_account_of_the_story_in_it(history: History, seed: int) -> None:
    labels = by_id(history[1])
    old = by_id(history[0])
    days = {"payments": 3, "around_days": 2}
    new, told = applied("benign_noise", history, seed, **days)
    around = defaultdict(list)
    for rows in by_story("benign_noise", history):
        for row in rows:
            for account in (sender(row), receiver(row)):
                span = rows[0]["timestamp"].date(), rows[-1]["timestamp"].date()
                around[account].append(span)
    for source, row, label in zip(sources(new), new.to_pylist(), told.to_pylist(), strict=True):
        template = old[source]
        assert not labels[source]["is_laundering"]
        assert (label["is_laundering"], label["typology"], label["scheme_id"]) == (False, NORMAL, None)
        for name in ("amount_paid", "amount_received", "currency_paid", "currency_received", "payment_format"):
            assert row[name] == template[name]
        assert row["timestamp"].time() == template["timestamp"].time()
        kept = (sender(row) == sender(template)) + (receiver(row) == receiver(template))
        assert kept >= 1
        margin = timedelta(days=2)
        assert any(
            start - margin <= row["timestamp"].date() <= end + margin
            for account in (sender(row), receiver(row))
            for start, end in around[account]
        )
        if row["sender_balance"] is not None:
            assert row["sender_balance"] >= row["amount_paid"]


def test_an_intermediary_is_a_new_account_where_no_other_is_known() -> None:
    new, _ = applied("intermediary", history_of([payment("T0")]), 1)
    first, second = sorted(new.to_pylist(), key=lambda row: row["timestamp"])
    assert receiver(first) == sender(second)
    assert receiver(first) not in {("B", "A1"), ("B", "A2")}


def test_an_intermediary_is_an_ordinary_account_that_holds_the_currency_paid() -> None:
    dollars = {"currency_paid": "USD", "currency_received": "USD"}
    ordinary = [payment("N0", payer="N1", payee="N1"), payment("N1", payer="N2", payee="N2", **dollars)]
    new, labels = applied("intermediary", history_of([payment("T0")], ordinary), 1)
    scheme = [row for row, label in zip(new.to_pylist(), labels.to_pylist(), strict=True) if label["scheme_id"]]
    assert {receiver(row) for row in scheme} == {("B", "N1"), ("B", "A2")}


def test_rows_whose_id_leaves_no_room_are_passed_over() -> None:
    history = history_of([payment("T" * 120)])
    made = perturb(*history, [{"name": "delay", "share": 1}], np.random.default_rng(0), UNTIL)
    assert made.transactions.num_rows == len(made.replaced) == 0


def test_a_story_that_would_leave_the_period_happens_as_it_did() -> None:
    history = history_of([payment("T0", UNTIL - timedelta(seconds=1)), payment("T1")])
    made = perturb(*history, [{"name": "delay", "share": 1}], np.random.default_rng(0), UNTIL)
    assert made.transactions.num_rows == len(made.replaced) == 0


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
        ([{"name": "reorder", "among": "ordinary"}], "laundering"),
        ([{"name": "merge", "most": 1}], "most"),
        ([{"name": "dropped_events", "most": 1.0}], "most"),
        ([{"name": "benign_noise", "payments": 0}], "payments"),
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
    transactions, _ = history_of([payment("T0")])
    with pytest.raises(DataError, match="T0"):
        perturb(transactions, LABELS.empty_table(), [], np.random.default_rng(0), UNTIL)
