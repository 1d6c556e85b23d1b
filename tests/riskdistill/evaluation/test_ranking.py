"""Ranking figures against scikit-learn, against enumeration, and as properties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, f1_score

from riskdistill.evaluation.ranking import (
    Floats,
    Labels,
    Ranking,
    alert_probability,
    alerts_within,
    best_f1_threshold,
    bootstrap_pr_auc,
    calibration_error,
    f1_at,
    recall_at_fpr,
)

COARSE = st.integers(0, 4).map(lambda step: step / 4)  # many equal scores


@st.composite
def scored(draw: st.DrawFn) -> tuple[Labels, Floats]:
    rows = draw(st.integers(2, 30))
    labels = draw(arrays.arrays(bool, rows))
    labels[:2] = True, False
    return labels, draw(arrays.arrays(float, rows, elements=COARSE))


@given(scored(), st.integers(0, 2**31))
def test_weighted_average_precision_equals_scikit_learns(case: tuple[Labels, Floats], seed: int) -> None:
    labels, scores = case
    counts = np.random.default_rng(seed).integers(0, 3, size=len(labels))
    counts[0] = 1
    expected = average_precision_score(labels, scores, sample_weight=counts)
    assert Ranking(labels, scores).pr_auc(counts) == pytest.approx(expected)


def test_alert_probability_is_the_share_of_tie_orders_that_alert_the_row() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.5, 0.1])
    tied = [0, 2, 3]
    orders = list(permutations(tied))
    for alerts in range(1, 6):
        expected = np.zeros(5)
        for order in orders:
            expected[[1, *order, 4][:alerts]] += 1 / len(orders)
        np.testing.assert_allclose(alert_probability(scores, alerts), expected)


@given(scored(), st.integers(1, 40))
def test_alert_probabilities_use_the_whole_budget_and_rank_like_the_scores(
    case: tuple[Labels, Floats], alerts: int
) -> None:
    _, scores = case
    probability = alert_probability(scores, alerts)
    assert probability.sum() == pytest.approx(min(alerts, len(scores)))
    assert (np.diff(probability[np.argsort(scores)]) >= 0).all()


def test_budget_allows_at_least_one_alert() -> None:
    assert [alerts_within(budget, 1_000) for budget in (0.0001, 0.005, 1.0)] == [1, 5, 1_000]


@given(scored())
def test_no_threshold_beats_the_chosen_f1(case: tuple[Labels, Floats]) -> None:
    labels, scores = case
    chosen = f1_at(labels, scores, best_f1_threshold(labels, scores))
    assert chosen == pytest.approx(max(f1_score(labels, scores >= cut) for cut in np.unique(scores)))


def test_recall_at_fpr_walks_straight_through_equal_scores() -> None:
    labels = np.array([True, True, False, True, False, False])
    scores = np.array([0.9, 0.5, 0.5, 0.2, 0.1, 0.1])
    assert recall_at_fpr(labels, scores, 1e-9) == pytest.approx(1 / 3)
    assert recall_at_fpr(labels, scores, 1 / 6) == pytest.approx(1 / 2)
    assert recall_at_fpr(labels, scores, 1 / 3) == pytest.approx(1.0)
    assert recall_at_fpr(labels, scores, 1.0) == 1.0


@given(scored(), st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order_of_the_rows(
    case: tuple[Labels, Floats], random: np.random.Generator
) -> None:
    labels, scores = case
    order = list(range(len(labels)))
    random.shuffle(order)
    for figure in (
        calibration_error,
        best_f1_threshold,
        lambda y, s: recall_at_fpr(y, s, 0.1),
        lambda y, s: float(alert_probability(s, 3)[y].sum()),
    ):
        assert figure(labels[order], scores[order]) == pytest.approx(figure(labels, scores))


def test_calibration_error_is_nothing_when_scores_are_frequencies() -> None:
    scores = np.repeat([0.0, 0.25, 0.75], 400)
    labels = np.concatenate([np.zeros(400), np.tile([1, 0, 0, 0], 100), np.tile([1, 1, 1, 0], 100)]) > 0
    assert calibration_error(labels, scores) == pytest.approx(0)
    assert calibration_error(labels, np.minimum(scores + 0.1, 1)) == pytest.approx(0.1)
    assert calibration_error(labels, np.full(1_200, 0.5)) == pytest.approx(1 / 6)


def test_bootstrap_is_paired_seeded_and_centred() -> None:
    random = np.random.default_rng(3)
    labels = random.random(4_000) < 0.05
    scores = 1 / (1 + np.exp(-random.normal(2.0 * labels - 3)))
    draws = bootstrap_pr_auc(labels, {"a": scores, "b": scores**2}, seed=5)
    np.testing.assert_array_equal(draws["a"], draws["b"])  # the same ranking on the same rows
    np.testing.assert_array_equal(draws["a"], bootstrap_pr_auc(labels, {"a": scores}, seed=5)["a"])
    low, high = np.quantile(draws["a"], (0.025, 0.975))
    assert low < average_precision_score(labels, scores) < high
    assert (draws["a"] != bootstrap_pr_auc(labels, {"a": scores}, seed=6)["a"]).any()


def test_a_draw_without_laundering_has_no_pr_auc() -> None:
    ranking = Ranking(np.array([True, False]), np.array([0.9, 0.1]))
    assert np.isnan(ranking.pr_auc(np.array([0, 2])))
