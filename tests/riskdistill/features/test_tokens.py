"""Event tokens: the recent events of both parties, as the channels of the specification say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from payment_histories import RATES, Payment, histories, history, payment, table, with_colliding_keys
from slow_reference import Reference
from small_engines import SMALL, busy, encoded

from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.features.record import RING

FULL = FeatureSpec(events_per_party=RING, forget_after_days=28.0)


def check(rows: list[Payment], spec: FeatureSpec) -> None:
    """Compare all channels of all tokens with the reference, and the padding with zero."""
    reference, most = Reference(spec, RATES), spec.events_per_party
    written = FeatureEngine(spec, RATES).encode(table(rows)).events
    for number, row in enumerate(rows):
        expected = np.zeros(written.shape[1:])
        for side, events in enumerate(reference.tokens(row, most)):
            for back, event in enumerate(events):
                assert set(event) == set(spec.token_channels)
                expected[side * most + back] = [event[name] for name in spec.token_channels]
        np.testing.assert_allclose(written[number], expected, rtol=2e-5, atol=2e-5, err_msg=f"row {number}")
        reference.observe(row)


@settings(max_examples=25)
@given(histories(late=0.2, again=0.1))
def test_every_channel_equals_the_reference(rows: list[Payment]) -> None:
    check(rows, SMALL)


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_every_channel_equals_the_reference_beyond_the_ring(late: float) -> None:
    rng = np.random.default_rng(4)
    check(history(rng, 130, steps=(0.0, 600.0, 9_000.0, 86_400.0), accounts=3, late=late), FULL)


def test_counterparties_whose_hashed_bits_are_equal_are_told_apart() -> None:
    check(with_colliding_keys(history(np.random.default_rng(6), 80, accounts=9)), SMALL)


def test_tokens_are_newest_first_sender_then_receiver_and_padded() -> None:
    rows = [payment(n, 0, 1, 3_600.0 * n, 10.0 * (n + 1)) for n in range(2)]
    rows += [payment(2, 2, 1, 9_000.0, 500.0), payment(3, 0, 1, 10_000.0, 40.0)]
    tokens = encoded(rows).events[3]
    channel = {name: tokens[:, index] for index, name in enumerate(SMALL.token_channels)}
    usd = np.expm1(channel["log_usd"])
    np.testing.assert_allclose(usd, [20, 10, 0, 0, 500, 20, 10, 0], rtol=1e-5)
    np.testing.assert_array_equal(channel["flow"], [-1, -1, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(channel["is_other_party"], [1, 1, 0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(channel["first_contact"], [0, 1, 0, 0, 1, 0, 1, 0])
    ages = np.expm1(channel["log_age"])
    np.testing.assert_allclose(ages, [6_400, 10_000, 0, 0, 1_000, 6_400, 10_000, 0], rtol=1e-4)
    gaps = np.expm1(channel["log_gap"])
    np.testing.assert_allclose(gaps, [3_600, 0, 0, 0, 5_400, 3_600, 0, 0], rtol=1e-4)
    np.testing.assert_array_equal(channel["peer"], [1, 1, 0, 0, 5, 6, 6, 0])
    assert not tokens[[2, 3, 7]].any()


def test_a_counterparty_of_both_parties_has_the_number_of_its_first_token() -> None:
    rows = [payment(0, 2, 0, 0.0), payment(1, 0, 3, 10.0), payment(2, 1, 2, 20.0), payment(3, 3, 1, 30.0)]
    tokens = encoded([*rows, payment(4, 0, 1, 40.0)]).events[4]
    np.testing.assert_array_equal(tokens[:, SMALL.token_channels.index("peer")], [1, 2, 0, 0, 1, 2, 0, 0])


def test_numbers_of_counterparties_are_whole_in_half_precision() -> None:
    rows = history(np.random.default_rng(5), 300, accounts=80)
    peers = encoded(rows, FULL).events[..., -1]
    assert peers.max() > RING
    np.testing.assert_array_equal(peers.astype(np.float16), peers)


def test_more_tokens_only_add_older_ones() -> None:
    rows = busy(30)
    few, many = encoded(rows), encoded(rows, FeatureSpec(events_per_party=9))
    assert few.context.tobytes() == many.context.tobytes()
    told = slice(0, SMALL.token_channels.index("peer"))  # which counts all tokens
    np.testing.assert_array_equal(few.events[:, :4, told], many.events[:, :4, told])
    np.testing.assert_array_equal(few.events[:, 4:, told], many.events[:, 9:13, told])
