"""Paired comparison of recipes over seeds, schemes and normal payments."""

from __future__ import annotations

import numpy as np
import pytest

from riskdistill.errors import DataError
from riskdistill.evaluation.comparison import resample
from riskdistill.evaluation.ranking import Floats, Labels

ROWS = 2_000


def period(seed: int = 0) -> tuple[Labels, np.ndarray, np.random.Generator]:
    draws = np.random.default_rng(seed)
    labels = draws.random(ROWS) < 0.1
    return labels, draws.integers(0, 40, ROWS), draws


def scores(labels: Labels, draws: np.random.Generator, strength: float) -> Floats:
    return strength * labels + draws.normal(size=ROWS)


def test_a_model_against_itself_has_ratio_one_without_width() -> None:
    labels, schemes, draws = period()
    run = [scores(labels, draws, 1.0) for _ in range(3)]
    told = resample(labels, schemes, {"a": run, "b": run}, resamples=50).compare("a", "b")
    assert told.ratio == 1
    assert told.ratio_interval == (1, 1)
    assert told.difference == 0
    assert told.difference_interval == (0, 0)
    assert "do not show" in told.verdict


def test_a_clearly_better_model_is_told_in_both_directions() -> None:
    labels, schemes, draws = period()
    runs = {name: [scores(labels, draws, strength) for _ in range(3)] for name, strength in (("a", 3), ("b", 1))}
    resampled = resample(labels, schemes, runs, resamples=100)
    better, worse = resampled.compare("a", "b"), resampled.compare("b", "a")
    assert better.verdict == "a ranks better than b"
    assert worse.verdict == "b ranks worse than a"
    assert better.difference_interval[0] <= better.difference <= better.difference_interval[1]
    assert better.ratio_interval[0] <= better.ratio <= better.ratio_interval[1]
    low, high = resampled.estimate("a").interval
    assert low <= resampled.estimate("a").value <= high


def test_one_teacher_stands_against_every_seed_of_the_student() -> None:
    labels, schemes, draws = period()
    runs = {"teacher": [scores(labels, draws, 2)], "student": [scores(labels, draws, 2) for _ in range(4)]}
    assert resample(labels, schemes, runs, resamples=20).compare("student", "teacher").seeds == 4


def test_schemes_drawn_whole_widen_the_interval() -> None:
    draws = np.random.default_rng(1)
    labels = np.arange(ROWS) < 400
    schemes = np.arange(ROWS) // 40  # ten schemes of 40 payments, each easy or hard as a whole
    run = [np.where(labels, draws.choice([0.0, 3.0], 50)[schemes], 0) + draws.normal(size=ROWS)]

    def width(clusters: np.ndarray) -> float:
        low, high = resample(labels, clusters, {"a": run}, resamples=200).estimate("a").interval
        return high - low

    assert width(schemes) > 2 * width(np.arange(ROWS))


def test_seeds_that_cannot_be_paired_are_refused() -> None:
    labels, schemes, draws = period()
    runs = {"a": [scores(labels, draws, 1)] * 2, "b": [scores(labels, draws, 1)] * 3}
    with pytest.raises(DataError, match="a has 2 seeds and b 3"):
        resample(labels, schemes, runs, resamples=2).compare("a", "b")


@pytest.mark.parametrize(("laundering", "runs"), [(False, {"a": [np.zeros(3)]}), (True, {"a": []})])
def test_a_period_without_laundering_and_a_recipe_without_runs_are_refused(laundering: bool, runs) -> None:
    with pytest.raises(DataError):
        resample(np.full(3, laundering), np.zeros(3), runs)
