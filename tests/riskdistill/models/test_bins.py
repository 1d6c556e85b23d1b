"""Edges of the pieces: at the trees' thresholds or at quantiles, never empty, never without an end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.errors import TrainingError
from riskdistill.models.bins import Bins

NAN = float("nan")
columns = st.lists(st.one_of(st.floats(width=32, allow_infinity=False), st.just(NAN)), min_size=1, max_size=30)


def table(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32).T


@given(columns, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(1, 50))
def test_pieces_are_finite_ascending_and_have_a_width(column: list[float], cuts: list[float], pieces: int) -> None:
    context = table(column)
    for bins in (
        Bins.of_thresholds(context, {0: np.sort(np.array(cuts))}, pieces),
        Bins.of_quantiles(table([*column, 0.0, 1.0]), pieces),
    ):
        assert np.isfinite(bins.lower).all()
        assert (bins.inverse_width > 0).all()
        assert np.isfinite(bins.inverse_width).all()
        assert (np.diff(bins.lower) >= 0).all()
        assert len(bins.feature) == len(bins.lower) == len(bins.inverse_width)


def test_edges_lie_where_the_trees_split() -> None:
    context = table([0.0] * 90 + [float(n) for n in range(1, 11)])
    bins = Bins.of_thresholds(context, {0: np.array([2.5, 2.5, 7.5])}, 3)
    assert {2.5, 7.5} <= set(bins.lower.tolist())


def test_features_that_no_tree_asked_for_have_no_piece_but_their_flag() -> None:
    context = table([1.0, 2.0, 3.0], [1.0, NAN, 3.0])
    bins = Bins.of_thresholds(context, {0: np.array([1.5])}, 10)
    assert set(bins.feature.tolist()) == {0}
    assert bins.missing.tolist() == [1]


def test_features_that_trees_ask_more_get_more_pieces() -> None:
    context = table(list(np.arange(100.0)), list(np.arange(100.0)))
    often = np.sort(np.random.default_rng(0).uniform(0, 99, 400))
    bins = Bins.of_thresholds(context, {0: often, 1: often[:4]}, 60)
    counts = np.bincount(bins.feature)
    assert counts[0] > 3 * counts[1] > 0
    assert abs(len(bins.feature) - 60) <= 4


def test_quantiles_that_repeat_make_one_edge() -> None:
    bins = Bins.of_quantiles(table([0.0] * 90 + [float(n) for n in range(1, 11)]), 20)
    assert (np.diff(bins.lower) > 0).all()


def test_trees_without_a_split_are_refused() -> None:
    with pytest.raises(TrainingError, match="split nowhere"):
        Bins.of_thresholds(table([1.0, 2.0]), {0: np.array([1e30])}, 10)
