"""Two sources are brought to what they share, without a look at labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from riskdistill.config import FeaturesConfig
from riskdistill.data.order import time_order
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.dataset import DAY, SECOND, Tables, clock_unit, cross_generator, feature_engine, shared_features
from riskdistill.dataset.clock import on_the_clock
from riskdistill.errors import DataError
from riskdistill.simulator import Simulated

FEATURES = FeaturesConfig()
FIELDS = ("sender_balance", "receiver_balance", "sender_tenure_days")


@pytest.fixture(scope="module")
def fine(tiny_world: Simulated) -> Tables:
    return Tables(telling(tiny_world.transactions, *FIELDS), tiny_world.labels, tiny_world.truth)


@pytest.fixture(scope="module")
def daily(fine: Tables) -> Tables:
    """The same traffic as a source that stamps by the day gives it."""
    transactions = on_the_clock(fine.transactions, DAY)
    order = time_order(transactions, coarse=True)
    return Tables(*(table.take(order) for table in (transactions, fine.labels, fine.truth)))


def telling(transactions: pa.Table, *fields: str) -> pa.Table:
    """The transactions with a made number for each of `fields` and no other optional field."""
    rng = np.random.default_rng(3)
    for at, field in enumerate(TRANSACTIONS):
        if field.nullable:
            told = rng.uniform(0, 9, len(transactions)) if field.name in fields else None
            values = pa.nulls(len(transactions), field.type) if told is None else pa.array(told)
            transactions = transactions.set_column(at, field, values)
    return transactions


def test_both_get_the_coarser_clock_and_labels_follow_their_rows(fine: Tables, daily: Tables) -> None:
    for learned, judged in (cross_generator(fine, daily, FEATURES), cross_generator(daily, fine, FEATURES)[::-1]):
        assert clock_unit(learned.times) == clock_unit(judged.times) == DAY
        assert (np.diff(learned.times) >= 0).all()
        assert learned.tables.labels["tx_id"].equals(learned.tables.transactions["tx_id"])
        assert not learned.tables.transactions["tx_id"].equals(fine.transactions["tx_id"])  # in order of content
        assert judged.tables.transactions.equals(daily.transactions)
        # the same traffic, brought to the same clock, is the same
        np.testing.assert_array_equal(learned.context, judged.context)


def test_one_learns_from_what_was_recorded_and_is_judged_by_the_truth(fine: Tables) -> None:
    learned, judged = cross_generator(fine, fine, FEATURES)
    np.testing.assert_array_equal(learned.label, fine.labels["is_laundering"].to_numpy())
    np.testing.assert_array_equal(judged.label, fine.judged_by["is_laundering"].to_numpy())
    assert judged.typology.tolist() == fine.judged_by["typology"].to_pylist()
    untrue = cross_generator(fine, Tables(fine.transactions, fine.labels), FEATURES)[1]
    np.testing.assert_array_equal(untrue.label, learned.label)


def test_labels_move_no_feature_of_the_other_source(fine: Tables, daily: Tables) -> None:
    rng = np.random.default_rng(0)
    flags = pa.array(rng.random(len(daily.labels)) < 0.3)
    relabelled = Tables(daily.transactions, daily.labels.set_column(1, daily.labels.schema.field(1), flags))
    for one, other in zip(
        cross_generator(fine, daily, FEATURES), cross_generator(fine, relabelled, FEATURES), strict=True
    ):
        np.testing.assert_array_equal(one.context, other.context)


def test_the_same_clock_keeps_rows_and_features_as_they_are(fine: Tables) -> None:
    plain = feature_engine(FEATURES).encode(fine.transactions, tokens=False).context
    for side in cross_generator(fine, fine, FEATURES):
        assert side.tables.transactions.equals(fine.transactions)
        assert clock_unit(side.times) <= SECOND
        np.testing.assert_array_equal(side.context, plain)


def test_what_one_of_them_does_not_tell_is_taken_from_the_other(fine: Tables) -> None:
    less = Tables(telling(fine.transactions, "receiver_balance", "sender_contact_changes"), fine.labels)
    for side in cross_generator(fine, less, FEATURES):
        table = side.tables.transactions
        told = {
            field.name for field in TRANSACTIONS if field.nullable and table[field.name].null_count < len(table)
        }
        assert told == {"receiver_balance"}


def test_shared_features_are_told_by_both_and_mean_the_same(fine: Tables) -> None:
    sides = cross_generator(fine, Tables(telling(fine.transactions, "receiver_balance"), fine.labels), FEATURES)
    shared = shared_features(*sides)
    names = set(np.array(sides[0].spec.names)[shared])
    assert not names & {"payment_format", "currency_paid", "currency_received"}
    assert names < set(sides[0].spec.names)
    for side in sides:
        assert not np.isnan(side.context[:, shared]).all(axis=0).any()


def test_misplaced_labels_are_refused(fine: Tables) -> None:
    with pytest.raises(DataError, match="labels for"):
        cross_generator(fine, Tables(fine.transactions, fine.labels.slice(1)), FEATURES)
