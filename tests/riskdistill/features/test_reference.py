"""Every named feature is what its meaning says: the compiled engine against a slow reference, name by name."""

from __future__ import annotations

import numpy as np
import pytest
import slow_account
from hypothesis import given, settings
from payment_histories import DAY, RATES, Payment, histories, history, payment, table, with_colliding_keys
from slow_account import REMEMBERED
from slow_reference import Reference

from riskdistill.features import FeatureEngine, FeatureSpec, record

SPEC = FeatureSpec()
NAMES = SPEC.names
OTHER_SPEC = FeatureSpec(windows=(600.0, 5_400.0, 40 * DAY), forget_after_days=28.0)


def check(rows: list[Payment], spec: FeatureSpec = SPEC) -> Reference:
    """Compare all features of all rows; a failure names the feature, the row and both values."""
    reference = Reference(spec, RATES)
    written = FeatureEngine(spec, RATES).encode(table(rows), tokens=False).context
    for number, row in enumerate(rows):
        expected = reference.observe(row)
        assert set(expected) == set(spec.names)
        # single precision in the ring, and differences of logarithms of it
        values = np.array([expected[name] for name in spec.names])
        close = np.isclose(written[number], values, rtol=2e-5, atol=2e-5, equal_nan=True)
        wrong = {spec.names[at]: (written[number, at], values[at]) for at in np.flatnonzero(~close)}
        assert not wrong, f"row {number}, written and reference: {wrong}"
    return reference


@settings(max_examples=50)
@given(histories(again=0.1))
def test_every_feature_equals_the_reference(rows: list[Payment]) -> None:
    check(rows)


@settings(max_examples=30)
@given(histories(late=0.4, again=0.1))
def test_every_feature_equals_the_reference_when_payments_arrive_late(rows: list[Payment]) -> None:
    check(rows)


@settings(max_examples=30)
@given(histories(late=0.2, again=0.1))
def test_every_feature_equals_the_reference_in_other_windows_and_when_accounts_are_soon_forgotten(
    rows: list[Payment],
) -> None:
    check(rows, OTHER_SPEC)


def test_the_bounds_of_the_reference_are_those_of_the_record() -> None:
    assert slow_account.RECENT_EVENTS == record.RING
    assert slow_account.REMEMBERED == record.KNOWN
    assert slow_account.ORIGINS == record.UPSTREAM
    assert FeatureSpec().max_hops == slow_account.MOST_HOPS
    assert slow_account.RECENT_DAYS * DAY == record.HORIZON
    assert slow_account.ORIGIN_DAYS * DAY == record.UPSTREAM_SECONDS


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_every_feature_equals_the_reference_beyond_the_ring(late: float) -> None:
    """Accounts of far more events than the ring holds: what was overwritten leaves no trace but in totals."""
    rng = np.random.default_rng(1)
    reference = check(history(rng, 160, steps=(0.0, 600.0, 9_000.0, 40_000.0), accounts=4, late=late))
    assert min(len(account.events) for account in reference.accounts.values()) > slow_account.RECENT_EVENTS


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_every_feature_equals_the_reference_beyond_the_counterparties_remembered(late: float) -> None:
    """One account pays and is paid by many, most of them more than once and several in the same second."""
    rng = np.random.default_rng(2)
    rows = history(rng, 150, steps=(0.0, 0.0, 60.0, 3_600.0), accounts=60, late=late)
    hub = payment(0, 0, 1, 0)
    for number, row in enumerate(rows):
        for part in ("bank", "account"):
            row[f"{'sender' if number % 3 else 'receiver'}_{part}"] = hub[f"sender_{part}"]
    reference = check(rows)
    met = {(event.peer, event.flow) for event in reference.accounts["b1", "a"].events}
    assert len(met) > REMEMBERED
    assert len(reference.accounts["b1", "a"].acquaintances) == REMEMBERED


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_every_feature_equals_the_reference_beyond_the_origins_kept(late: float) -> None:
    """Money of 40 accounts is gathered by some, passed along a chain, and returns to where it came from."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(150):
        sender, receiver = number % 40 + 20, int(rng.integers(0, 3))
        if number % 4 == 3:
            sender, receiver = int(rng.integers(0, 6)), int(rng.integers(0, 30))
        stamp = 7_000.0 * (number // 2) - float(rng.integers(0, 40_000)) * (rng.random() < late)
        rows.append(payment(number, sender, receiver, stamp, 100.0 + number))
    reference = check(rows)
    assert max(len(account.origins) for account in reference.accounts.values()) == slow_account.ORIGINS
    assert max(one.hops for account in reference.accounts.values() for one in account.origins) > 2


def test_every_feature_equals_the_reference_along_a_chain_longer_than_is_followed() -> None:
    rows = [payment(number, number % 9, (number + 1) % 9, 60.0 * number, 1_000.0 - number) for number in range(30)]
    reference = check(rows)
    hops = [origin.hops for account in reference.accounts.values() for origin in account.origins]
    assert max(hops) == slow_account.MOST_HOPS


def test_money_older_than_two_weeks_is_not_passed_on_not_even_for_a_late_payment() -> None:
    rows = [payment(0, 0, 1, 0), payment(1, 1, 2, 14.5 * DAY), payment(2, 2, 3, 13 * DAY)]
    check(rows)
    assert values_of(rows)["upstream_sender"] == 1


def test_accounts_whose_hashed_bits_are_equal_are_told_apart() -> None:
    steps = (0.0, 3_600.0, 3 * DAY, 10 * DAY)
    rows = with_colliding_keys(history(np.random.default_rng(5), 200, steps, accounts=9))
    assert len({(row["sender_bank"], row["sender_account"]) for row in rows}) == 9
    check(rows)


# ---- a few meanings by hand, against a mistake that both would make


def values_of(rows: list[Payment], number: int = -1) -> dict[str, float]:
    return dict(zip(NAMES, FeatureEngine().encode(table(rows)).context[number].tolist(), strict=True))


def test_a_regular_payee_stays_a_distinct_peer_however_often_it_is_paid() -> None:
    rows = [payment(number, 0, 1, 3_600.0 * number) for number in range(120)]
    context = FeatureEngine().encode(table(rows), tokens=False).context
    for name in ("sender_out_peers_28d", "receiver_in_peers_28d", "sender_out_banks_28d"):
        assert context[0, NAMES.index(name)] == 0
        assert (context[1:, NAMES.index(name)] == 1).all()


def test_an_amount_equal_to_all_before_ranks_above_none() -> None:
    rows = [payment(number, 0, 1, 60.0 * number, amount) for amount in (100.1, 100.3) for number in range(4)]
    for part in (rows[:4], rows[4:]):
        context = FeatureEngine().encode(table(part), tokens=False).context
        assert (context[1:, NAMES.index("sender_rank")] == 0).all()


def test_a_cycle_is_seen_when_the_money_returns() -> None:
    rows = [payment(0, 0, 1, 0, 1_000.0), payment(1, 1, 2, 3_600, 900.0), payment(2, 2, 0, 7_200, 800.0)]
    last = values_of(rows)
    assert last["cycle_hops"] == 3
    assert last["cycle_gap"] == 7_200
    assert last["cycle_ratio"] == pytest.approx(np.log1p(800) - np.log1p(1_000), abs=1e-5)


def test_money_that_goes_on_in_nearly_equal_amounts_makes_a_chain() -> None:
    amounts = (1_000.0, 950.0, 930.0, 500.0)
    rows = [payment(number, number, number + 1, 3_600.0 * number, amount) for number, amount in enumerate(amounts)]
    assert [values_of(rows, number)["chain"] for number in range(4)] == [0, 1, 2, 0]
    assert values_of([*rows, payment(9, 2, 5, 1e5, 1.0)])["sender_out_matched"] == 1


def test_money_stays_until_the_next_payment_leaves() -> None:
    rows = [
        payment(0, 1, 0, 0, 300.0),
        payment(1, 0, 2, 3_600.0, 10.0),  # an hour after the 300
        payment(2, 1, 0, 7_200.0, 100.0),
        payment(3, 0, 3, 7_200.0 + DAY, 10.0),  # a day after the 100
    ]
    last = values_of([*rows, payment(4, 0, 1, 10 * DAY)])
    assert last["sender_stay"] == pytest.approx((300 * 3_600 + 100 * DAY) / 400)
    assert last["sender_continued_6h"] == pytest.approx(0.75)
    assert last["sender_continued_2d"] == 1


def test_two_payers_of_two_payees_are_seen_as_a_bipartite_shape() -> None:
    """3 has paid 4 and then 5, both of which 2 pays; 2 has paid 5, which 3 has paid too."""
    pairs = ((3, 4), (3, 5), (2, 4), (2, 5))
    rows = [payment(number, *pair, 600.0 * number) for number, pair in enumerate(pairs)]
    last = values_of(rows)
    assert (last["copayers"], last["copayees"]) == (1, 1)
    assert last["common_senders"] == last["common_receivers"] == 0
    apart = values_of([*rows[:3], payment(3, 0, 5, 1_800.0)])
    assert (apart["copayers"], apart["copayees"]) == (0, 0)


def test_a_forgotten_account_begins_again() -> None:
    rows = [payment(0, 0, 1, 0), payment(1, 0, 1, 1_001 * DAY), payment(2, 0, 1, 1_002 * DAY)]
    assert np.isnan(values_of(rows, 1)["sender_age"])
    assert values_of(rows, 1)["pair_count"] == values_of(rows, 1)["receiver_in_total_count"] == 0
    assert values_of(rows, 2)["sender_age"] == DAY
