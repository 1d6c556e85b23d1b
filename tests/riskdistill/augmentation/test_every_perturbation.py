"""The battery that every perturbation passes: what it declares holds on any history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise, permutations

import numpy as np
import pyarrow.compute as pc
import pytest
from augmentation_histories import CLASSES, START, UNTIL, histories, seeds
from hypothesis import given, settings
from retellings import (
    NAMES,
    History,
    Row,
    applied,
    by_id,
    by_source,
    by_story,
    conserving,
    history_of,
    payment,
    receiver,
    retold,
    sender,
)

from riskdistill.augmentation import PERTURBATIONS, Perturbed, perturb, sources
from riskdistill.data.canonical import canonical_table
from riskdistill.data.currencies import USD_PER_UNIT
from riskdistill.data.schema import ACCOUNT_FIELDS, LABELS, MAX_AMOUNT, TRANSACTIONS

RETELLING = [name for name in NAMES if name not in conserving("story")]


def on_any_history(test: Callable[..., None]) -> Callable[..., None]:
    """With few examples each, for there are more than a hundred of these tests."""
    return settings(max_examples=15)(given(history=histories(), seed=seeds)(test))


def told(name: str, history: History, seed: int, share: float = 1.0) -> Perturbed:
    """`perturb` by one perturbation, of all stories that it takes."""
    among = "laundering" if name in ("reorder", "dropped_events") else "all"
    config = [{"name": name, "share": share, "among": among}]
    return perturb(*history, config, np.random.default_rng(seed), UNTIL)


@pytest.mark.parametrize("name", NAMES)
@on_any_history
def test_new_rows_are_canonical_with_unique_new_ids_and_their_labels(
    name: str, history: History, seed: int
) -> None:
    new, labels = applied(name, history, seed)
    assert (new.schema, labels.schema) == (TRANSACTIONS, LABELS)
    new.validate(full=True)
    labels.validate(full=True)
    assert canonical_table(new) == new  # texts and numbers in their ranges
    old, ids = by_id(history[0]), new["tx_id"].to_pylist()
    assert labels["tx_id"].to_pylist() == ids
    assert len(set(ids)) == len(ids)
    assert set(ids).isdisjoint(old)
    assert set(sources(new)) <= set(old)
    for source, row, label in zip(sources(new), new.to_pylist(), labels.to_pylist(), strict=True):
        assert sender(row) != receiver(row) or sender(old[source]) == receiver(old[source])
        assert 0 < row["amount_paid"] <= MAX_AMOUNT
        assert 0 < row["amount_received"] <= MAX_AMOUNT
        assert label["known_at"] >= row["timestamp"]


@pytest.mark.parametrize("name", NAMES)
@on_any_history
def test_what_is_known_of_accounts_stays_known_and_true(name: str, history: History, seed: int) -> None:
    new, _ = applied(name, history, seed)
    for field in ACCOUNT_FIELDS:
        assert new[field].null_count == (0 if new.num_rows and history[0][field][0].is_valid else new.num_rows)
    for row in new.to_pylist():
        for side in ("sender", "receiver"):
            if row[f"{side}_tenure_days"] is not None and not row[f"{side}_account"].endswith("~between"):
                account = float(row[f"{side}_account"][1:])
                days = (row["timestamp"].replace(hour=0, minute=0, second=0, microsecond=0) - START).days
                assert row[f"{side}_tenure_days"] == max(0.0, days + account + 0.25)
                assert row[f"{side}_contact_changes"] == account
                assert row[f"{side}_class"] == CLASSES[int(account) % 2]


@pytest.mark.parametrize("name", NAMES)
@on_any_history
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
@on_any_history
def test_count_is_conserved(name: str, history: History, seed: int) -> None:
    for rows, pairs in retold(name, history, seed):
        assert sorted(row["tx_id"] for row in rows) == sorted(was["tx_id"] for was, _ in pairs)


@pytest.mark.parametrize("name", conserving("accounts"))
@on_any_history
def test_accounts_are_conserved(name: str, history: History, seed: int) -> None:
    for _, pairs in retold(name, history, seed):
        for was, row in pairs:
            assert (sender(row), receiver(row)) == (sender(was), receiver(was))


@pytest.mark.parametrize("name", conserving("shape"))
@on_any_history
def test_accounts_change_one_to_one(name: str, history: History, seed: int) -> None:
    for _, pairs in retold(name, history, seed):
        names: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for was, row in pairs:
            names[sender(was)].add(sender(row))
            names[receiver(was)].add(receiver(row))
        assert all(len(instead) == 1 for instead in names.values())
        assert len({account for instead in names.values() for account in instead}) == len(names)


@pytest.mark.parametrize("name", conserving("amount"))
@on_any_history
def test_money_is_conserved_to_the_cent(name: str, history: History, seed: int) -> None:
    old = by_id(history[0])
    for source, rows in by_source(applied(name, history, seed)[0]).items():
        was = old[source]
        through = {receiver(into) for into, out in permutations(rows, 2) if receiver(into) == sender(out)}
        between = through - {sender(was), receiver(was)}
        paid = sum(row["amount_paid"] for row in rows if sender(row) not in between)
        received = sum(row["amount_received"] for row in rows if receiver(row) not in between)
        assert abs(paid - was["amount_paid"]) < 0.005
        assert abs(received - was["amount_received"]) < 0.005
        for account in between:
            into = [(r["amount_received"], r["currency_received"]) for r in rows if receiver(r) == account]
            out = [(r["amount_paid"], r["currency_paid"]) for r in rows if sender(r) == account]
            assert into == out


def sums(rows: list[Row]) -> dict[tuple[object, ...], float]:
    """What each account paid each other, by currency, and what of it arrived."""
    added: dict[tuple[object, ...], float] = defaultdict(float)
    for row in rows:
        for word in ("paid", "received"):
            added[word, sender(row), receiver(row), row[f"currency_{word}"]] += row[f"amount_{word}"]
    return added


@pytest.mark.parametrize("name", conserving("total"))
@on_any_history
def test_what_accounts_pay_each_other_in_a_story_adds_up_to_what_it_did(
    name: str, history: History, seed: int
) -> None:
    for rows, pairs in retold(name, history, seed):
        assert sums([row for _, row in pairs]) == pytest.approx(sums(rows), rel=1e-12, abs=0.005)


@pytest.mark.parametrize("name", conserving("value"))
@on_any_history
def test_dollars_are_conserved_to_the_smallest_unit(name: str, history: History, seed: int) -> None:
    for _, pairs in retold(name, history, seed):
        for was, row in pairs:
            for word in ("paid", "received"):
                rate = USD_PER_UNIT[row[f"currency_{word}"]]
                unit = rate * (1e-8 if row[f"currency_{word}"] == "XBT" else 1e-2)
                dollars = was[f"amount_{word}"] * USD_PER_UNIT[was[f"currency_{word}"]]
                assert row[f"amount_{word}"] * rate == pytest.approx(dollars, rel=1e-9, abs=unit)


@pytest.mark.parametrize("name", conserving("time_order"))
@on_any_history
def test_order_inside_a_scheme_is_conserved(name: str, history: History, seed: int) -> None:
    made = by_source(applied(name, history, seed)[0])
    for rows in by_story(name, history):
        left = [(row["timestamp"], [new["timestamp"] for new in made[row["tx_id"]]]) for row in rows]
        for (earlier, first), (later, second) in pairwise([pair for pair in left if pair[1]]):
            assert earlier == later or max(first) <= min(second)


@pytest.mark.parametrize("name", conserving("gaps"))
@on_any_history
def test_a_story_moves_as_a_whole(name: str, history: History, seed: int) -> None:
    for _, pairs in retold(name, history, seed):
        assert len({row["timestamp"] - was["timestamp"] for was, row in pairs}) == 1


@pytest.mark.parametrize("name", conserving("times"))
@on_any_history
def test_the_times_of_a_story_are_conserved(name: str, history: History, seed: int) -> None:
    for rows, pairs in retold(name, history, seed):
        assert sorted(new["timestamp"] for _, new in pairs) == sorted(row["timestamp"] for row in rows)


@pytest.mark.parametrize("name", NAMES)
@on_any_history
def test_nothing_is_placed_outside_the_training_period(name: str, history: History, seed: int) -> None:
    made = told(name, history, seed, share=0.6)
    times = made.transactions["timestamp"].to_pylist()
    assert times == sorted(times)
    first = min(history[0]["timestamp"].to_pylist(), default=UNTIL)
    assert all(first <= time < UNTIL for time in times)
    assert made.labels["tx_id"].to_pylist() == made.transactions["tx_id"].to_pylist()


@pytest.mark.parametrize("name", RETELLING)
@on_any_history
def test_whole_stories_of_the_period_give_way_to_the_new_rows(name: str, history: History, seed: int) -> None:
    made = told(name, history, seed, share=0.6)
    replaced = made.replaced.to_pylist()
    made_from = set(sources(made.transactions))
    assert len(set(replaced)) == len(replaced)
    assert made_from <= set(replaced)
    for rows in by_story(name, history):
        ids = {row["tx_id"] for row in rows if row["timestamp"] < UNTIL}
        assert ids <= set(replaced) if ids & made_from else ids.isdisjoint(replaced)


@pytest.mark.parametrize("name", conserving("story"))
@on_any_history
def test_what_comes_beside_a_story_replaces_nothing(name: str, history: History, seed: int) -> None:
    assert len(told(name, history, seed).replaced) == 0


@pytest.mark.parametrize("name", NAMES)
@on_any_history
def test_what_comes_after_the_period_makes_no_difference(name: str, history: History, seed: int) -> None:
    transactions, labels = history
    past = transactions.filter(pc.less(transactions["timestamp"], UNTIL))
    blind, seeing = (told(name, (table, labels), seed) for table in (past, transactions))
    assert blind.transactions.equals(seeing.transactions)
    assert blind.labels.equals(seeing.labels)
    assert blind.replaced.equals(seeing.replaced)


@on_any_history
def test_all_together_give_unique_ids_the_same_for_the_same_seed(history: History, seed: int) -> None:
    config = [{"name": name, "share": 0.7} for name in NAMES]
    first, second = (perturb(*history, config, np.random.default_rng(seed), UNTIL) for _ in range(2))
    assert first.transactions.equals(second.transactions)
    assert first.labels.equals(second.labels)
    assert first.replaced.equals(second.replaced)
    ids = first.transactions["tx_id"].to_pylist()
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_give_none(name: str) -> None:
    made = told(name, (TRANSACTIONS.empty_table(), LABELS.empty_table()), 1)
    assert (made.transactions.schema, made.labels.schema) == (TRANSACTIONS, LABELS)
    assert made.transactions.num_rows == made.labels.num_rows == len(made.replaced) == 0


@pytest.mark.parametrize("name", NAMES)
def test_one_row_is_told_or_left_as_it_is(name: str) -> None:
    made = told(name, history_of([payment("T0")]), 1)
    assert set(sources(made.transactions)) == set(made.replaced.to_pylist())


@pytest.mark.parametrize("name", NAMES)
def test_every_perturbation_changes_a_scheme_that_it_can_change(name: str) -> None:
    hours = [START + timedelta(days=1, hours=hour) for hour in range(40)]
    scheme = [payment(f"S{i}", hours[i], "A1", "A2", amount_paid=20.0 + i) for i in range(3)]
    scheme += [payment(f"S{i}", hours[i], "A2", "A3", amount_paid=40.0 + i) for i in range(3, 5)]
    card = {"currency_paid": "USD", "currency_received": "USD", "payment_format": "card"}
    ordinary = [payment(f"N{i}", hours[i], "N1", f"N{i}") for i in range(5, 10)]
    ordinary += [payment(f"N{i}", hours[i], "N1", f"N{i}", payment_format="card") for i in range(10, 15)]
    ordinary += [payment(f"N{i}", hours[i], "N20", f"N{i}", **card) for i in range(15, 20)]
    history = history_of(scheme, ordinary)
    new, _ = applied(name, history, 3)
    plain, made = ([{**row, "tx_id": ""} for row in table.to_pylist()] for table in (history[0], new))
    assert made
    assert any(row not in plain for row in made) or len(made) < len(scheme)
