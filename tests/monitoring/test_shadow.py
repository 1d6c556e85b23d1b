"""Champion and challenger side by side: what a window of shadow scores shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.shadow import compare
from riskdistill.storage.shadows import ShadowScore

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def scored(old: float, new: float, minute: float = 0, **changes: Any) -> ShadowScore:
    fields: dict[str, Any] = {
        "tx_id": "tx",
        "decided_at": DAY + timedelta(minutes=minute),
        "decided_by": "champion",
        "challenger_release": "r2",
        "champion_version": "a",
        "challenger_version": "b",
        "champion_score": old,
        "challenger_score": new,
        "champion_alert": old >= 0.5,
        "challenger_alert": new >= 0.5,
    }
    return ShadowScore(**fields | changes)


def test_a_window_counts_agreement_overlap_shift_and_time() -> None:
    scores = [scored(0.1, 0.2), scored(0.6, 0.7, champion_us=100.0, challenger_us=80.0), scored(0.4, 0.6)]
    (window,) = compare([*scores, scored(0.7, 0.4, decided_by="challenger")], timedelta(hours=1))
    assert (window.start, window.transactions, window.by_challenger) == (DAY, 4, 1)
    assert (window.agreement, window.overlap) == (0.5, pytest.approx(1 / 3))
    assert (window.champion_alerts, window.challenger_alerts) == (0.5, 0.5)
    assert window.shift == pytest.approx(0.025)
    assert (window.champion_us, window.challenger_us) == (100.0, 80.0)


def test_windows_are_cut_by_time_and_empty_ones_are_not_there() -> None:
    windows = compare([scored(0.1, 0.1, 170), scored(0.1, 0.1), scored(0.1, 0.1, 59)], timedelta(hours=1))
    assert [(window.start, window.transactions) for window in windows] == [(DAY, 2), (DAY + timedelta(hours=2), 1)]
    assert (windows[0].overlap, windows[0].champion_us) == (None, None)
    assert compare([], timedelta(hours=1)) == ()


def test_scores_that_moved_past_each_other_are_far_apart() -> None:
    (same,) = compare([scored(0.1, 0.1), scored(0.2, 0.2)], timedelta(days=1))
    (apart,) = compare([scored(0.1, 0.8), scored(0.2, 0.9)], timedelta(days=1))
    assert (same.distance, apart.distance) == (0.0, 1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_shares_are_shares_and_equal_models_agree(pairs: list[tuple[float, float]]) -> None:
    (window,) = compare([scored(*pair) for pair in pairs], timedelta(days=1))
    assert 0 <= window.agreement <= 1
    assert 0 <= window.distance <= 1
    assert window.overlap is None or 0 <= window.overlap <= 1
    (equal,) = compare([scored(old, old) for old, _ in pairs], timedelta(days=1))
    assert (equal.agreement, equal.shift, equal.distance) == (1.0, 0.0, 0.0)
