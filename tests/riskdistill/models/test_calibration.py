"""Calibration: a probability at natural prevalence, and never another ranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from riskdistill.errors import TrainingError
from riskdistill.models.calibration import Calibrator, prior_shift

shares = st.floats(1e-4, 1 - 1e-4)
logits = st.lists(st.floats(-30, 30), min_size=2, max_size=50)


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-values)))


@given(shares, shares, st.floats(-8, 8))
def test_prior_shift_is_bayes_rule(natural: float, mixed: float, logit: float) -> None:
    """Odds at the natural prevalence are the likelihood ratio times the natural odds."""
    ratio = np.exp(logit) / (mixed / (1 - mixed))
    odds = ratio * natural / (1 - natural)
    assert np.exp(logit + prior_shift(natural, mixed)) == pytest.approx(odds, rel=1e-9)


@given(shares, shares)
def test_prior_shift_back_and_forth_is_none(natural: float, mixed: float) -> None:
    assert prior_shift(natural, mixed) + prior_shift(mixed, natural) == pytest.approx(0, abs=1e-9)
    assert prior_shift(natural, natural) == 0


@given(logits, st.floats(-5, 5), st.floats(0.01, 10), st.floats(-5, 5))
def test_calibration_keeps_the_ranking(values: list[float], shift: float, slope: float, intercept: float) -> None:
    scores = Calibrator(prior_shift=shift, slope=slope, intercept=intercept)(np.sort(values))
    assert (np.diff(scores) >= 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_a_fitted_calibrator_keeps_the_ranking_and_the_mean(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 10 == 0
    values = rng.normal(size=200) + labels
    calibrator = Calibrator.fit(values, labels, shift=shift)
    scores = calibrator(values)
    assert (np.diff(scores[np.argsort(values, kind="stable")]) >= 0).all()
    if calibrator.slope != 1.0 or calibrator.intercept != 0.0:
        assert scores.mean() == pytest.approx(labels.mean(), abs=0.01)


def test_known_distortion_is_undone() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(-2, 1.5, 40_000)
    labels = rng.random(len(true)) < sigmoid(true)
    calibrator = Calibrator.fit(3 * true + 4, labels, shift=-4.0)
    assert calibrator.slope == pytest.approx(1 / 3, rel=0.05)
    assert np.abs(calibrator(3 * true + 4) - sigmoid(true)).max() < 0.02


def test_a_model_worse_than_chance_is_left_in_its_order() -> None:
    values = np.linspace(-1, 1, 100)
    calibrator = Calibrator.fit(values, values < -0.5)
    assert (calibrator.slope, calibrator.intercept) == (1.0, 0.0)


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_are_refused(label: bool) -> None:
    with pytest.raises(TrainingError, match="longer validation period"):
        Calibrator.fit(np.arange(5.0), np.full(5, label))


def test_a_falling_calibrator_cannot_be_made() -> None:
    with pytest.raises(ValidationError):
        Calibrator(slope=-1.0)


def test_no_rows_and_extreme_logits_are_defined() -> None:
    assert Calibrator()(np.empty(0)).shape == (0,)
    assert Calibrator()(np.array([-1e9, 1e9])).tolist() == pytest.approx([0, 1])
