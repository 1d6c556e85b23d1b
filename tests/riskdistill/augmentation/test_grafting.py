"""A grafted scheme is the same scheme, elsewhere."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from augmentation_histories import START, UNTIL, histories, seeds
from hypothesis import given

from riskdistill.augmentation import sources, synthetic_anomalies
from riskdistill.data.canonical import canonical_table
from riskdistill.data.schema import LABELS, NORMAL, TRANSACTIONS
from riskdistill.errors import ConfigError, DataError
from riskdistill.simulator import PRESETS, Recording, Simulated, simulate

EVERYTHING_FOUND = Recording(large=1, small=1, coverage=1, mistaken=0, misnamed=0)
TINY = PRESETS["tiny"].model_copy(update={"recording": EVERYTHING_FOUND})
END = TINY.start + timedelta(days=20)


@pytest.fixture(scope="module")
def tiny() -> Simulated:
    return simulate(TINY)


@pytest.fixture(scope="module")
def grafts(tiny: Simulated) -> tuple[pa.Table, pa.Table]:
    return synthetic_anomalies(tiny.transactions, tiny.labels, 200, np.random.default_rng(5), END)


def test_as_many_rows_as_wanted_all_inside_the_training_period(grafts: tuple[pa.Table, pa.Table]) -> None:
    new, labels = grafts
    assert (new.schema, labels.schema) == (TRANSACTIONS, LABELS)
    new.validate(full=True)
    labels.validate(full=True)
    assert 200 <= new.num_rows < 240
    times = new["timestamp"].to_pylist()
    assert times == sorted(times)
    assert all(TINY.start <= time < END for time in times)
    ids = new["tx_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert labels["tx_id"].to_pylist() == ids


def test_label_typology_gaps_and_hours_are_those_of_the_scheme(
    tiny: Simulated, grafts: tuple[pa.Table, pa.Table]
) -> None:
    new, labels = grafts
    old = {row["tx_id"]: row for row in tiny.transactions.to_pylist()}
    told = {row["tx_id"]: row for row in tiny.labels.to_pylist()}
    shifts = defaultdict(set)
    for source, row, label in zip(sources(new), new.to_pylist(), labels.to_pylist(), strict=True):
        assert label["is_laundering"]
        assert label["typology"] == told[source]["typology"]
        assert label["scheme_id"].startswith(f"{told[source]['scheme_id']}~graft")
        assert label["known_at"] >= row["timestamp"]
        shifts[label["scheme_id"]].add(row["timestamp"] - old[source]["timestamp"])
    for shift in shifts.values():
        (only,) = shift
        assert only % timedelta(days=1) == timedelta(0)
    assert len({shift for (shift,) in map(tuple, shifts.values())}) > 3


def test_accounts_are_replaced_one_to_one_by_ordinary_ones_of_the_same_currency(
    tiny: Simulated, grafts: tuple[pa.Table, pa.Table]
) -> None:
    new, labels = grafts
    bad = tiny.labels["is_laundering"].to_numpy()
    frame = tiny.transactions.to_pandas()
    frame = frame[frame["timestamp"] < END]
    schemers = frame[bad[: len(frame)]]
    touched = {*schemers["sender_account"], *schemers["receiver_account"]}
    home = dict(zip(frame["sender_account"], frame["currency_paid"], strict=True))
    home |= dict(zip(frame["receiver_account"], frame["currency_received"], strict=True))
    old = {row["tx_id"]: row for row in tiny.transactions.to_pylist()}
    hosts: dict[str, dict[str, str]] = defaultdict(dict)
    for source, row, label in zip(sources(new), new.to_pylist(), labels.to_pylist(), strict=True):
        for side in ("sender_account", "receiver_account"):
            assert row[side] not in touched
            host = hosts[label["scheme_id"]].setdefault(old[source][side], row[side])
            assert host == row[side]
    for mapping in hosts.values():
        assert len(set(mapping.values())) == len(mapping)
    pairs = [(old, host) for mapping in hosts.values() for old, host in mapping.items()]
    assert np.mean([home[old] == home[host] for old, host in pairs]) > 0.9


def test_all_amounts_of_a_graft_are_scaled_by_one_factor(
    tiny: Simulated, grafts: tuple[pa.Table, pa.Table]
) -> None:
    new, labels = grafts
    old = {row["tx_id"]: row for row in tiny.transactions.to_pylist()}
    ratios = defaultdict(list)
    for source, row, label in zip(sources(new), new.to_pylist(), labels.to_pylist(), strict=True):
        if old[source]["amount_paid"] > 50:
            ratios[label["scheme_id"]].append(row["amount_paid"] / old[source]["amount_paid"])
    for ratio in ratios.values():
        assert max(ratio) - min(ratio) < 4e-4
        assert 0.7999 < min(ratio) <= max(ratio) < 1.2501


@given(history=histories(laundering=True), seed=seeds)
def test_any_history_is_grafted_inside_its_period(history: tuple[pa.Table, pa.Table], seed: int) -> None:
    # ordinary accounts enough for any scheme of the history: nobody else knows them
    strangers = [f"N{i}" for i in range(10)]
    transactions, told = history
    payments = [
        transactions.slice(0, 1).to_pylist()[0]
        | {"tx_id": f"N{i}", "sender_account": payer, "receiver_account": payee, "timestamp": START}
        for i, (payer, payee) in enumerate(pairwise(strangers))
    ]
    normal = {"is_laundering": False, "typology": NORMAL, "scheme_id": None, "known_at": START}
    answers = [normal | {"tx_id": payment["tx_id"]} for payment in payments]
    transactions = pa.concat_tables([pa.Table.from_pylist(payments, TRANSACTIONS), transactions])
    told = pa.concat_tables([told, pa.Table.from_pylist(answers, LABELS)])
    new, labels = synthetic_anomalies(transactions, told, 5, np.random.default_rng(seed), UNTIL)
    assert new.num_rows >= 5
    assert all(START <= time < UNTIL for time in new["timestamp"].to_pylist())
    assert all(labels["is_laundering"].to_pylist())
    assert len(set(new["tx_id"].to_pylist())) == new.num_rows


@given(history=histories(laundering=True), seed=seeds)
def test_balances_go_with_the_scheme_and_customer_fields_with_the_host(
    history: tuple[pa.Table, pa.Table], seed: int
) -> None:
    transactions, told = history
    hosts = transactions.take(np.zeros(9, np.int64)).to_pylist()
    for number, row in enumerate(hosts):
        row |= {"tx_id": f"N{number}", "sender_account": f"N{number}", "receiver_account": f"N{number + 9}"}
        if row["sender_balance"] is not None:
            row |= {f"{side}_tenure_days": 7.0 for side in ("sender", "receiver")}
            row |= {f"{side}_contact_changes": 99.0 for side in ("sender", "receiver")}
    normal = {"is_laundering": False, "typology": NORMAL, "scheme_id": None, "known_at": START}
    answers = [normal | {"tx_id": row["tx_id"]} for row in hosts]
    transactions = pa.concat_tables([pa.Table.from_pylist(hosts, TRANSACTIONS), transactions])
    told = pa.concat_tables([told, pa.Table.from_pylist(answers, LABELS)])
    new, _ = synthetic_anomalies(transactions, told, 5, np.random.default_rng(seed), UNTIL)
    assert canonical_table(new) == new
    old = {row["tx_id"]: row for row in transactions.to_pylist()}
    for source, row in zip(sources(new), new.to_pylist(), strict=True):
        was = old[source]
        assert (row["sender_balance"] is None) == (was["sender_balance"] is None)
        if row["sender_balance"] is None:
            continue
        if was["amount_paid"] > 100:
            factor = row["amount_paid"] / was["amount_paid"]
            assert row["sender_balance"] == pytest.approx(was["sender_balance"] * factor, rel=1e-3, abs=0.02)
        for side in ("sender", "receiver"):
            if row[f"{side}_account"].startswith("N"):
                assert row[f"{side}_tenure_days"] == 7.0 + (row["timestamp"] - START).days
                assert row[f"{side}_contact_changes"] == 99.0


def test_none_wanted_gives_none(tiny: Simulated) -> None:
    new, labels = synthetic_anomalies(tiny.transactions, tiny.labels, 0, np.random.default_rng(0), END)
    assert (new.num_rows, labels.num_rows) == (0, 0)


def test_a_period_without_laundering_is_refused() -> None:
    quiet = simulate(TINY.model_copy(update={"laundering_share": 0.0}))
    with pytest.raises(DataError, match="no laundering to graft"):
        synthetic_anomalies(quiet.transactions, quiet.labels, 10, np.random.default_rng(0), END)


def test_too_few_ordinary_accounts_are_refused(tiny: Simulated) -> None:
    labels = tiny.labels
    place = labels.schema.get_field_index("is_laundering")
    labels = labels.set_column(place, LABELS.field(place), pa.array([True] * labels.num_rows))
    with pytest.raises(DataError, match="0 accounts outside schemes"):
        synthetic_anomalies(tiny.transactions, labels, 10, np.random.default_rng(0), END)


def test_an_end_without_a_time_zone_is_refused(tiny: Simulated) -> None:
    with pytest.raises(ConfigError, match="time zone"):
        synthetic_anomalies(tiny.transactions, tiny.labels, 10, np.random.default_rng(0), END.replace(tzinfo=None))


def test_an_emphasised_typology_is_grafted_more_often_and_equal_weights_change_nothing(
    tiny: Simulated, grafts: tuple[pa.Table, pa.Table]
) -> None:
    chosen = next(name for name in sorted(set(grafts[1]["typology"].to_pylist())) if name != "unlisted")

    def grafted(emphasis: dict[str, float]) -> tuple[float, pa.Table]:
        rng = np.random.default_rng(5)
        new, labels = synthetic_anomalies(tiny.transactions, tiny.labels, 200, rng, END, emphasis)
        return labels["typology"].to_pylist().count(chosen) / labels.num_rows, new

    (plain, rows), (more, _) = grafted({"absent": 9.0}), grafted({chosen: 50.0})
    assert 0 < plain < 0.5
    assert more > 0.8
    assert rows.equals(grafts[0])
