"""Windows join without gaps: what falls due in a month falls due once, wherever the windows are cut."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.simulator.clock import Window

START = datetime(2025, 1, 1, tzinfo=UTC)


@given(cuts=st.lists(st.integers(1, 119), unique=True, max_size=12), due=st.integers(1, 28))
def test_monthly_dues_of_windows_are_those_of_the_whole(cuts: list[int], due: int) -> None:
    order = np.array([due])
    edges = [0, *sorted(cuts), 120]
    parts = [Window(START, a, b - a).monthly(order)[1] for a, b in pairwise(edges)]
    assert np.concatenate(parts).tolist() == Window(START, 0, 120).monthly(order)[1].tolist()


@given(due=st.integers(1, 28))
def test_nothing_falls_due_on_a_weekend_and_every_month_has_one(due: int) -> None:
    window = Window(START, 0, 120)
    days = window.monthly(np.array([due]))[1]
    assert (window.weekday[days] < 5).all()
    assert len(days) in (3, 4)


def test_seasons_move_with_the_shift() -> None:
    november, moved = Window(START, 320, 7), Window(START, 290, 7, season_shift=30)
    assert november.shopping.mean() > Window(START, 290, 7).shopping.mean()
    assert moved.shopping.mean() == pytest.approx(november.shopping.mean())
