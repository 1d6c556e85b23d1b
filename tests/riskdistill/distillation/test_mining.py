"""How hard rows are, and which are drawn again for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from riskdistill.distillation.mining import entropy, error, redraw

logits = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-20, 20, width=32))


@given(logits)
def test_entropy_is_greatest_at_even_odds_and_the_same_on_either_side(logit: NDArray[np.float32]) -> None:
    found = entropy(logit)
    assert (found >= 0).all()
    assert (found <= np.float32(np.log(2)) + 1e-6).all()
    np.testing.assert_array_equal(found, entropy(-logit))
    nearer = entropy(logit / 2)
    assert (nearer >= found - 1e-6).all()


def test_entropy_and_error_of_known_answers() -> None:
    assert entropy(np.array([0.0, 500.0], np.float32)).tolist() == pytest.approx([np.log(2), 0.0])
    label = np.array([1, 0, 1, np.nan], np.float32)
    assert error(np.array([0, -500, -500, 500], np.float32), label).tolist() == [0.5, 0.0, 1.0, 0.5]


@given(st.integers(1, 200), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_mined_rows_are_of_the_draw_and_replace_no_more_than_their_share(m: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    draw = random.choice(2 * m, size=m, replace=True)
    mined = redraw(draw, random.random(2 * m).astype(np.float32), share, random)
    assert len(mined) == m
    assert set(mined.tolist()) <= set(draw.tolist())
    assert (mined != draw).sum() <= share * m


def test_hard_rows_are_drawn_more_often() -> None:
    hardness = np.array([0.01] * 90 + [1.0] * 10, np.float32)
    mined = redraw(np.arange(100), hardness, 0.5, np.random.default_rng(0))
    assert (mined >= 90).sum() > 40


@pytest.mark.parametrize(("share", "hardness"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_moves_without_a_share_or_without_hard_rows(share: float, hardness: float) -> None:
    draw = np.array([4, 2, 2, 0])
    assert redraw(draw, np.full(5, hardness, np.float32), share, np.random.default_rng(0)).tolist() == [4, 2, 2, 0]
