"""Agreement of teacher and student, and what is told of the payments on which they differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from riskdistill.errors import DataError
from riskdistill.evaluation.agreement import agreement, most_disagreeing, notable_features
from riskdistill.features.spec import FeatureSpec

COARSE = arrays.arrays(float, 12, elements=st.integers(0, 4).map(lambda step: step / 4))
LABELS = np.arange(12) < 3


@given(COARSE, COARSE, st.sampled_from([0.01, 0.25, 1.0]))
def test_every_payment_is_decided_once(teacher: np.ndarray, student: np.ndarray, budget: float) -> None:
    if np.ptp(teacher) == 0 or np.ptp(student) == 0:
        return
    told = agreement(LABELS, teacher, student, [budget]).budgets[0]
    for decisions, rows in ((told.laundering, 3), (told.normal, 9)):
        assert sum(decisions.model_dump().values()) == pytest.approx(rows)
    assert -1e-9 <= told.shared_alerts <= 1 + 1e-9


def test_a_model_agrees_with_itself() -> None:
    scores = np.linspace(0.1, 0.9, 12)
    told = agreement(LABELS, scores, scores, [0.25])
    assert told.rank_correlation == pytest.approx(1)
    assert told.log_odds_correlation == pytest.approx(1)
    assert told.budgets[0].shared_alerts == 1


def test_a_model_that_says_one_thing_is_refused() -> None:
    with pytest.raises(DataError, match="same score"):
        agreement(LABELS, np.full(12, 0.5), np.linspace(0, 1, 12), [0.25])


def test_the_greatest_gap_in_log_odds_comes_first() -> None:
    rows = most_disagreeing(np.array([0.5, 0.01, 0.5]), np.array([0.6, 0.9, 0.5]), 2)
    assert rows.tolist() == [1, 0]


def test_what_stands_out_is_told_in_words_and_missing_values_are_not() -> None:
    spec = FeatureSpec()
    context = np.zeros((50, len(spec.context)), np.float32)
    context[7, 0], context[7, 1] = 9_450, np.nan
    told = notable_features(context, spec, 7)
    assert told == ("amount paid, at the rate of its day: 9,450 USD (above 98 % of payments)",)
    assert notable_features(context, spec, 8) == ()
