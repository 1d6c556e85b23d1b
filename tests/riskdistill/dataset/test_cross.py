"""Two sources brought to what they share: the clock, the columns; each with its own past and its own labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from riskdistill.config import FeaturesConfig
from riskdistill.data.schema import LABELS, TRANSACTIONS
from riskdistill.dataset import DAY, Side, Tables, as_known_at, cross_generator
from riskdistill.dataset.clock import microseconds, moment, on_the_clock
from riskdistill.errors import DataError
from riskdistill.features import FeatureEngine, FeatureSpec

FEATURES = FeaturesConfig(events_per_party=4)
NAMES = FeatureSpec(events_per_party=4).names
CUSTOMER = ("sender_tenure_days", "receiver_tenure_days")


@pytest.fixture(scope="module")
def fine(tiny_tables: tuple[pa.Table, pa.Table]) -> Tables:
    transactions, labels = tiny_tables
    return Tables(transactions, labels)


@pytest.fixture(scope="module")
def coarse(fine: Tables) -> Tables:
    """Whole days, no tenure, and a truth in which all that is normal is laundering and the reverse."""
    days = on_the_clock(fine.transactions, DAY)
    for name in CUSTOMER:
        at = TRANSACTIONS.get_field_index(name)
        days = days.set_column(at, TRANSACTIONS.field(at), pa.nulls(len(days), pa.float64()))
    swapped = pa.array(~fine.labels["is_laundering"].to_numpy())
    return Tables(days, fine.labels, fine.labels.set_column(1, LABELS.field(1), swapped))


@pytest.fixture(scope="module")
def sides(fine: Tables, coarse: Tables) -> tuple[Side, Side]:
    return cross_generator(fine, coarse, FEATURES)


def test_both_are_on_the_coarser_clock_and_know_the_same_columns(sides: tuple[Side, Side], fine: Tables) -> None:
    assert microseconds(fine.transactions).max() % DAY
    assert not fine.transactions["sender_tenure_days"].null_count
    for side in sides:
        assert len(side) == fine.transactions.num_rows
        assert not (side.times % DAY).any()
        assert (np.diff(side.times) >= 0).all()
        assert np.isnan(side.encoded.context[:, NAMES.index("sender_tenure")]).all()
        assert side.encoded.context.shape == (len(side), len(NAMES))
        assert len(side.encoded.events) == 0


def test_equal_payments_are_equal_rows_whatever_the_order_of_the_files(
    sides: tuple[Side, Side], fine: Tables, coarse: Tables
) -> None:
    """Both sides tell of the same payments here, so that all that differs would tell the sources apart."""
    np.testing.assert_array_equal(sides[0].encoded.context, sides[1].encoded.context)
    days = microseconds(coarse.transactions) // DAY
    backwards = np.lexsort((-np.arange(len(days)), days))
    turned = Tables(*(table.take(backwards) for table in coarse if table is not None))
    other = cross_generator(fine, turned, FEATURES)[1]
    np.testing.assert_array_equal(other.encoded.context, sides[1].encoded.context)
    np.testing.assert_array_equal(other.label, sides[1].label)


def test_one_learns_from_what_was_known_and_the_other_is_judged_by_the_truth(
    sides: tuple[Side, Side], fine: Tables, coarse: Tables
) -> None:
    end = microseconds(fine.transactions)[-1]
    known = as_known_at(fine.labels, moment(end))["is_laundering"].to_numpy()
    recorded = fine.labels["is_laundering"].to_numpy()
    assert sides[0].label.sum() == known.sum() < recorded.sum()
    assert sides[1].label.sum() == (~recorded).sum()


def test_sources_that_share_all_are_left_as_they_are(fine: Tables) -> None:
    heard: list[int] = []
    one, other = cross_generator(fine, fine, FEATURES, progress=heard.append)
    plain = FeatureEngine(FeatureSpec(events_per_party=4)).encode(fine.transactions)
    np.testing.assert_array_equal(one.encoded.context, plain.context)
    np.testing.assert_array_equal(other.encoded.context, plain.context)
    np.testing.assert_array_equal(other.label, fine.labels["is_laundering"].to_numpy())
    assert sum(heard) == 2 * fine.transactions.num_rows


def test_labels_that_do_not_fit_are_refused(fine: Tables) -> None:
    with pytest.raises(DataError, match="rows of labels for"):
        cross_generator(fine, Tables(fine.transactions, fine.labels.slice(1)), FEATURES)
