"""Every named feature is what its meaning says: the compiled engine against a slow reference, name by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from payment_histories import Payment, histories, history, payment, table
from slow_reference import Reference

from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.features.engine import format_bucket

NAMES = FeatureSpec().names


def check(rows: list[Payment]) -> None:
    """Compare all features of all rows; a failure names the feature, the row and both values."""
    reference = Reference()
    written = FeatureEngine().replay(table(rows), tokens=False).context
    for number, row in enumerate(rows):
        expected = reference.observe(row) | {"payment_format": format_bucket(row["payment_format"])}
        assert set(expected) == set(NAMES)
        for name, value in zip(NAMES, written[number], strict=True):
            # single precision in the ring, and differences of logarithms of it
            close = np.isclose(value, expected[name], rtol=2e-5, atol=2e-5, equal_nan=True)
            assert close, f"row {number}, {name}: {value}, reference {expected[name]}"


@settings(max_examples=80)
@given(histories())
def test_every_feature_equals_the_reference(rows: list[Payment]) -> None:
    check(rows)


@settings(max_examples=40)
@given(histories(late=0.4))
def test_every_feature_equals_the_reference_when_payments_arrive_late(rows: list[Payment]) -> None:
    check(rows)


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_every_feature_equals_the_reference_beyond_the_ring(late: float) -> None:
    """Accounts of far more events than the ring holds: what was overwritten leaves no trace but in totals."""
    check(history(np.random.default_rng(1), 250, steps=(0.0, 600.0, 9_000.0, 40_000.0), late=late))


def test_a_regular_payee_stays_a_distinct_peer_however_often_it_is_paid() -> None:
    rows = [payment(number, 0, 1, 3_600.0 * number) for number in range(120)]
    context = FeatureEngine().replay(table(rows), tokens=False).context
    for name in ("sender_out_peers_28d", "receiver_in_peers_28d"):
        assert context[0, NAMES.index(name)] == 0
        assert (context[1:, NAMES.index(name)] == 1).all()


def test_an_amount_equal_to_all_before_ranks_above_none() -> None:
    rows = [payment(number, 0, 1, 60.0 * number, amount) for amount in (100.1, 100.3) for number in range(4)]
    for part in (rows[:4], rows[4:]):
        context = FeatureEngine().replay(table(part), tokens=False).context
        assert (context[1:, NAMES.index("sender_rank")] == 0).all()


def test_a_cycle_is_seen_when_the_money_returns() -> None:
    rows = [payment(0, 0, 1, 0, 1_000.0), payment(1, 1, 2, 3_600, 900.0), payment(2, 2, 0, 7_200, 800.0)]
    last = dict(zip(NAMES, FeatureEngine().replay(table(rows)).context[2], strict=True))
    assert last["cycle_hops"] == 3
    assert last["cycle_gap"] == 7_200
    assert last["cycle_ratio"] == pytest.approx(np.log1p(800) - np.log1p(1_000), abs=1e-5)


def test_names_are_unique_and_every_one_has_a_meaning() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.meaning and feature.unit and feature.group for feature in FeatureSpec().context)
