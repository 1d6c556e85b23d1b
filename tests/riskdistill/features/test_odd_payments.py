"""Payments at the edges of what is canonical: the engine stays finite, bounded and in its right mind."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from payment_histories import DAY, START, Payment, histories, payment, table, transaction
from pydantic import ValidationError
from small_engines import SMALL, encoded, engine_after, named, probe

from riskdistill.data.schema import MAX_AMOUNT, TIMESTAMP
from riskdistill.errors import TransactionError
from riskdistill.features.record import KNOWN, RING


def test_a_self_transfer_is_both_sent_and_received() -> None:
    values = named(encoded([payment(0, 0, 0, 0, 70.0), payment(1, 0, 0, 60, 70.0)]))
    assert values["self_transfer"] == 1
    assert values["sender_in_total_count"] == values["sender_out_total_count"] == 1
    assert values["pair_count"] == values["reverse_count"] == 1
    assert values["upstream_sender"] == 0
    assert np.isnan(values["cycle_hops"])


def test_nothing_is_infinite_for_zero_and_largest_amounts() -> None:
    rows = [payment(n, n % 3, (n + 1) % 3, 60.0 * n, MAX_AMOUNT * (n % 5 == 0)) for n in range(20)]
    of_rows = encoded(rows)
    assert not np.isinf(of_rows.context).any()
    assert np.isfinite(of_rows.events).all()


@settings(max_examples=40)
@given(histories(late=0.5, again=0.1))
def test_late_payments_give_no_negative_gap_count_or_share(rows: list[Payment]) -> None:
    of_rows = encoded(rows)
    units = ["seconds", "payments", "accounts", "banks", "currencies", "payment pairs", "hops"]
    magnitudes = of_rows.context[:, np.isin([feature.unit for feature in SMALL.context], units)]
    assert not (magnitudes < 0).any()
    ages = [SMALL.token_channels.index(name) for name in ("log_age", "log_gap")]
    assert (of_rows.events[:, :, ages] >= 0).all()


def test_time_may_go_back_by_years() -> None:
    years = 3 * 365 * DAY
    rows = [payment(0, 0, 1, years), payment(1, 0, 1, 0.0), payment(2, 0, 1, years + 60.0)]
    of_rows = encoded(rows)
    assert np.isfinite(of_rows.events).all()
    early, after = named(of_rows, 1), named(of_rows, 2)
    assert early["sender_out_total_count"] == early["sender_out_count_1h"] == 1
    assert early["sender_age"] == early["sender_out_gap"] == early["pair_gap"] == 0
    assert after["sender_out_count_1h"] == 2
    assert after["sender_age"] == after["sender_out_gap"] == 60


def test_late_stamps_are_kept_on_the_calendar_of_the_row_itself() -> None:
    rows = [payment(0, 0, 1, 0), payment(1, 0, 1, -5 * 3_600.0)]
    assert named(encoded(rows))["hour"] == 17.0


def test_a_hundred_thousand_payments_of_one_pair_in_one_second() -> None:
    count = 100_000
    stamps = [START + timedelta(microseconds=10 * number) for number in range(count)]
    many = table([payment(0, 0, 1, 0)]).take(np.zeros(count, np.int64))
    many = many.set_column(0, many.schema.field(0), pa.array([f"t{number}" for number in range(count)]))
    many = many.set_column(1, many.schema.field(1), pa.array(stamps, TIMESTAMP))
    engine = engine_after([])
    engine.advance(many)
    asked = probe(engine, 1.0)
    values = named(asked)
    assert values["sender_out_total_count"] == values["receiver_in_total_count"] == count
    assert values["sender_out_count_1h"] == RING
    assert values["pair_count"] == 65_535  # two bytes; it stays there
    np.testing.assert_allclose(values["sender_out_rate_1d"], count, rtol=1e-3)
    assert not np.isinf(asked.context).any()
    assert np.isfinite(asked.events).all()


def test_a_hub_is_bounded_and_keeps_its_totals_and_last_counterparties() -> None:
    count = 5_000
    rows = [payment(n, 0, 1, 60.0 * n, receiver_account=f"customer {n}") for n in range(count)]
    engine = engine_after(rows)

    def about(customer: int) -> dict[str, float]:
        asked = payment(count, 0, 1, 60.0 * count, receiver_account=f"customer {customer}")
        return named(engine.peek(transaction(asked)))

    assert len(engine) == count + 1
    assert about(0)["sender_out_total_count"] == count
    assert about(0)["sender_out_count_28d"] == about(0)["sender_out_peers_28d"] == RING
    assert [about(count - KNOWN)["pair_count"], about(count - KNOWN - 1)["pair_count"]] == [1, 0]


def test_an_account_id_of_ten_kilobytes_is_refused_in_a_table_as_it_is_alone() -> None:
    rows = [payment(0, 0, 1, 0.0), payment(1, 0, 1, 60.0, receiver_account="x" * 10_000)]
    with pytest.raises(TransactionError, match=r"'receiver_account', row 1: it is longer than 128 .*shorten it"):
        engine_after(rows)
    with pytest.raises(ValidationError, match="receiver_account"):
        transaction(rows[1])


def test_tiny_and_huge_numbers_beside_each_other_make_no_infinity() -> None:
    rows = [
        payment(0, 0, 1, 0.0, 1e-300, sender_balance=1e-300, receiver_balance=1e-300),
        payment(1, 0, 1, 60.0, 1e13, sender_balance=1e-300, receiver_balance=1e-300),
        payment(2, 1, 0, 120.0, 1e-300, amount_received=1e13),
        payment(3, 0, 1, 180.0, 1e13),
    ]
    assert not np.isinf(encoded(rows).context).any()
