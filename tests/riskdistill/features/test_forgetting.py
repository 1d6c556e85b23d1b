"""Accounts idle for long are as new, whether and whenever their records are swept out."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import DAY, START, Payment, histories, payment, table, transaction
from small_engines import engine_after, go_on_alike, named, same

from riskdistill.features import FeatureEngine, FeatureSpec

SOON = FeatureSpec(events_per_party=4, forget_after_days=28.0)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@settings(max_examples=60)
@given(histories(late=0.2, again=0.1), st.sets(st.integers(0, 23)))
def test_sweeping_changes_no_later_feature(rows: list[Payment], sweeps: set[int]) -> None:
    plain, swept = FeatureEngine(SOON), FeatureEngine(SOON)
    for number, row in enumerate(rows):
        if number in sweeps:
            earliest_to_come = min(later["timestamp"] for later in rows[number:])
            known = len(swept)
            assert swept.evict(earliest_to_come) == known - len(swept)
        assert same(swept.observe(transaction(row)), plain.observe(transaction(row)))
    assert len(swept) <= len(plain)


def test_sweeping_frees_exactly_the_accounts_that_are_idle() -> None:
    rows = [payment(0, 0, 1, 0), payment(1, 2, 3, 10.0)]
    engine = engine_after(rows, SOON)
    assert [engine.evict(at(28 * DAY)), len(engine)] == [0, 4]  # idle for just so long, and no longer
    assert [engine.evict(at(28 * DAY + 10)), len(engine)] == [2, 2]
    assert [engine.evict(at(28 * DAY + 11)), len(engine)] == [2, 0]
    assert engine.evict(at(99 * DAY)) == 0


def test_an_engine_that_forgot_everybody_begins_again() -> None:
    rows = [payment(number, number, number + 1, 60.0 * number) for number in range(60)]
    engine = engine_after(rows, SOON)
    assert engine.evict(at(60 * DAY)) == 61
    assert go_on_alike(engine, FeatureEngine(SOON), rows)
    assert len(engine) == 61


def test_an_engine_that_forgot_everybody_is_saved_and_restored(tmp_path: Path) -> None:
    engine, again = engine_after([payment(0, 0, 1, 0)], SOON), FeatureEngine(SOON)
    engine.evict(at(60 * DAY))
    engine.save(tmp_path / "state")
    again.restore(tmp_path / "state")
    rows = [payment(number, number, number + 1, 60.0 * number) for number in range(60)]
    assert go_on_alike(again, FeatureEngine(SOON), rows)


def test_a_restored_engine_is_swept_without_touching_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    rows = [payment(0, 0, 1, 0), payment(1, 2, 3, 30 * DAY)]
    engine_after(rows, SOON).save(path)
    written = path.read_bytes()
    engine = FeatureEngine(SOON)
    engine.restore(path)
    assert engine.evict(at(31 * DAY)) == 2
    assert path.read_bytes() == written
    assert go_on_alike(engine, engine_after(rows, SOON), [payment(2, 2, 3, 31 * DAY), payment(3, 0, 1, 31 * DAY)])


def test_an_account_is_as_new_when_it_was_idle_for_longer_and_only_then() -> None:
    engine = engine_after([payment(0, 0, 1, 0)], SOON)

    def sent(seconds: float) -> float:
        return named(engine.peek(transaction(payment(1, 0, 2, seconds))))["sender_out_total_count"]

    assert [sent(28 * DAY), sent(28 * DAY + 1e-3)] == [1, 0]


def test_peeking_at_an_idle_account_does_not_make_it_forgotten() -> None:
    engine = engine_after([payment(0, 0, 1, 0)], SOON)
    assert np.isnan(named(engine.peek(transaction(payment(1, 0, 1, 60 * DAY))))["sender_age"])
    assert named(engine.peek(transaction(payment(1, 0, 1, DAY))))["sender_age"] == DAY


def test_the_other_party_remembers_an_account_that_is_forgotten() -> None:
    rows = [payment(0, 0, 1, 0), payment(1, 2, 1, 20 * DAY)]
    values = named(engine_after(rows, SOON).peek(transaction(payment(2, 1, 0, 40 * DAY))))
    assert np.isnan(values["receiver_age"])
    assert values["reverse_count"] == 1


def test_an_account_that_pays_itself_after_long_is_new_on_both_sides() -> None:
    rows = [payment(0, 0, 0, 0), payment(1, 0, 0, 60 * DAY), payment(2, 0, 0, 61 * DAY)]
    encoded = FeatureEngine(SOON).encode(table(rows))
    assert np.isnan(named(encoded, 1)["sender_age"])
    assert np.isnan(named(encoded, 1)["receiver_age"])
    assert [named(encoded, 2)[f"sender_{flow}_total_count"] for flow in ("in", "out")] == [1, 1]
