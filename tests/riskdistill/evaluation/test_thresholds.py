"""Each rule keeps what it promises, on any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from riskdistill.config import ServingConfig, ThresholdConfig
from riskdistill.errors import TrainingError
from riskdistill.evaluation.thresholds import by_cost, by_false_positive_rate, choose_threshold, within

SCORES = arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]))


@given(scores=SCORES, alerts=st.integers(0, 70))
def test_no_more_than_the_budget_is_alerted_and_no_lower_threshold_would_keep_it(
    scores: np.typing.NDArray[np.float64], alerts: int
) -> None:
    threshold = within(scores, alerts)
    assert (scores >= threshold).sum() <= alerts
    below = scores[scores < threshold]
    if len(below):
        assert (scores >= below.max()).sum() > alerts


@given(seed=st.integers(0, 1_000), alert=st.floats(0.01, 5.0), missed=st.floats(5.1, 100.0))
def test_the_cost_rule_is_the_cheapest_on_calibrated_scores(seed: int, alert: float, missed: float) -> None:
    scores = np.random.default_rng(seed).random(50)

    def expected(threshold: float) -> float:
        reviewed = scores >= threshold
        return float(alert * reviewed.sum() + missed * scores[~reviewed].sum())

    cheapest = min(expected(threshold) for threshold in [*scores, 1.1])
    assert expected(by_cost(missed, alert)) == pytest.approx(cheapest)


@given(scores=SCORES, seed=st.integers(0, 1_000), fpr=st.floats(0.01, 0.99))
def test_no_more_normal_transactions_are_alerted_than_the_rate_allows(
    scores: np.typing.NDArray[np.float64], seed: int, fpr: float
) -> None:
    label = np.random.default_rng(seed).random(len(scores)) < 0.3
    label[0] = False
    threshold = by_false_positive_rate(scores, label, fpr)
    assert (scores[~label] >= threshold).mean() <= fpr + 1e-12


def test_the_configured_rule_decides() -> None:
    scores = np.linspace(0.0, 0.99, 100)
    label = scores > 0.9

    def alerted(**settings: object) -> int:
        config = ThresholdConfig.model_validate(settings)
        return int((scores >= choose_threshold(scores, label, 2.0, config)).sum())

    assert alerted(budget=0.1) == 10
    assert alerted(budget=0.1, alerts_per_day=3.6) == 7  # two days
    assert alerted(rule="cost", missed_cost=10.0, alert_cost=8.0) == 20
    assert alerted(rule="fpr", fpr=0.05) == 9 + 4


def test_a_period_without_a_normal_transaction_has_no_false_positive_rate() -> None:
    with pytest.raises(TrainingError, match="longer validation period"):
        by_false_positive_rate(np.array([0.2]), np.array([True]), 0.1)


def test_a_review_that_costs_more_than_laundering_is_refused() -> None:
    with pytest.raises(ValidationError, match="nothing would be reviewed"):
        ThresholdConfig(missed_cost=1.0, alert_cost=1.0)


def test_holding_more_than_is_reviewed_is_refused() -> None:
    with pytest.raises(ValidationError, match="above the review budget"):
        ServingConfig(review=ThresholdConfig(budget=0.01), hold_budget=0.02)
    ServingConfig(review=ThresholdConfig(rule="cost"), hold_budget=0.02)
