"""Hard rows are drawn again, and an epoch keeps its length and its members."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from riskdistill.distillation.mining import entropy, error, redraw

logits = arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1000, 1000, width=32))
seeds = st.integers(0, 2**32 - 1)


@given(logits)
def test_entropy_is_even_bounded_and_largest_at_a_half(logit: np.ndarray) -> None:
    found = entropy(logit)
    np.testing.assert_array_equal(found, entropy(-logit))
    assert ((found >= 0) & (found <= np.float32(np.log(2)))).all()
    assert entropy(np.zeros(1, np.float32))[0] == pytest.approx(np.log(2))


def test_entropy_is_that_of_the_probabilities() -> None:
    logit = np.linspace(-6, 6, 25, dtype=np.float32)
    p = 1 / (1 + np.exp(-logit.astype(float)))
    np.testing.assert_allclose(entropy(logit), -p * np.log(p) - (1 - p) * np.log(1 - p), rtol=1e-5)


def test_a_row_is_as_hard_as_its_teacher_is_wrong() -> None:
    logit, label = np.array([-40, -40, 0, 40, 3], np.float32), np.array([0, 1, 1, 1, np.nan], np.float32)
    np.testing.assert_allclose(error(logit, label), [0, 1, 0.5, 0, 0.5], atol=1e-6)


@given(st.integers(1, 60), st.floats(0, 1), seeds)
def test_an_epoch_keeps_its_length_and_takes_in_no_stranger(length: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    draw, hardness = random.integers(0, 50, length), random.random(50).astype(np.float32)
    before = draw.copy()
    mined = redraw(draw, hardness, share, random)
    assert len(mined) == length
    assert set(mined.tolist()) <= set(draw.tolist())
    assert (mined != draw).sum() <= share * length
    np.testing.assert_array_equal(draw, before)


def test_hard_rows_come_again_in_proportion_to_their_hardness() -> None:
    draw = np.arange(1_000).repeat(10)
    hardness = np.where(np.arange(1_000) < 100, 9, 1).astype(np.float32)
    mined = redraw(draw, hardness, 1.0, np.random.default_rng(0))
    assert (mined < 100).mean() == pytest.approx(0.5, abs=0.03)


def test_a_row_of_no_hardness_is_never_drawn_again() -> None:
    hardness = np.array([0, 0, 1, 0], np.float32)
    assert set(redraw(np.arange(4), hardness, 1.0, np.random.default_rng(0)).tolist()) == {2}


def test_nothing_moves_where_no_row_is_hard_or_nothing_is_asked() -> None:
    draw = np.arange(20)
    hard, easy = np.ones(20, np.float32), np.zeros(20, np.float32)
    assert redraw(draw, easy, 0.5, np.random.default_rng(0)).tolist() == draw.tolist()
    assert redraw(draw, hard, 0.0, np.random.default_rng(0)).tolist() == draw.tolist()
