"""The interval of a coverage knows that the weeks of one world are alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitoring_estimates import clustered
from monitoring_rules import proportion

WORLDS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=2, max_size=30)


def test_weeks_that_tell_as_much_as_independent_ones_have_the_exact_interval() -> None:
    sizes = np.full(20, 10)
    assert clustered(np.full(20, 9), sizes) == pytest.approx(proportion(180, 200))
    assert clustered(sizes, sizes) == pytest.approx(proportion(200, 200))
    assert clustered(0 * sizes, sizes) == pytest.approx(proportion(0, 200))


def test_worlds_that_are_right_or_wrong_as_a_whole_count_once() -> None:
    found = clustered(np.repeat([10, 0], [18, 2]), np.full(20, 10))
    exact = proportion(18, 20)
    assert found == pytest.approx(exact, abs=0.02)


@given(WORLDS)
def test_the_share_is_within_its_interval(worlds: list[tuple[int, int]]) -> None:
    hits, sizes = np.array([(min(hit, size), size) for hit, size in worlds]).T
    low, high = clustered(hits, sizes)
    assert 0 <= low <= hits.sum() / sizes.sum() <= high <= 1
