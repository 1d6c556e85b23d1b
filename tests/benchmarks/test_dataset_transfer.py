"""Shares undo what currencies and prices do."""

from __future__ import annotations

import numpy as np
from dataset_transfer import shares
from hypothesis import given
from hypothesis import strategies as st


@given(
    values=st.lists(st.integers(-1000, 1000), min_size=1, max_size=50),
    factor=st.sampled_from([0.25, 2.0, 1024.0]),
)
def test_shares_do_not_change_with_the_unit(values: list[int], factor: float) -> None:
    columns = np.array(values, np.float32)[:, None]
    told = shares(columns, columns)
    np.testing.assert_array_equal(shares(columns * np.float32(factor), columns * np.float32(factor)), told)
    assert ((told > 0) & (told < 1)).all()


def test_shares_keep_what_is_missing_missing() -> None:
    columns = np.array([[1, np.nan], [np.nan, 3]], np.float32)
    reference = np.array([[0, np.nan], [1, np.nan], [2, np.nan], [np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(shares(columns, reference), [[0.5, np.nan], [np.nan, np.nan]])
