"""Intervals that hold for many comparisons at once."""

import numpy as np
import pytest
from simultaneous import Difference, differences

from riskdistill.evaluation.comparison import Resampled


def resampled(recipes, draws=2_000, noise=0.01, gains=None):
    """Recipes with two seeds, their noise over draws independent; `gains` over the first one, by name."""
    random, gains = np.random.default_rng(7), gains or {}
    measured = {name: np.full(2, 0.9 + gains.get(name, 0.0)) for name in recipes}
    drawn = {name: measured[name] + noise * random.standard_normal((draws, 1)) * [1, 1] for name in recipes}
    return Resampled(measured, drawn, seed=7)


def test_one_comparison_has_the_interval_of_a_normal_difference():
    (gain,) = differences(resampled(["a", "b"]), ["b"], "a").values()
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * 0.01 * 2**0.5, rel=0.1)


def test_more_comparisons_widen_each_interval():
    names = [f"recipe {number}" for number in range(20)]
    found = resampled(["a", *names])
    alone = differences(found, names[:1], "a")[names[0]]
    together = differences(found, names, "a")[names[0]]
    assert together.value == alone.value
    assert together.low < alone.low < alone.high < together.high


def test_only_a_difference_beyond_chance_is_shown():
    names = [f"recipe {number}" for number in range(20)]
    gains = differences(resampled(["a", *names], gains={"recipe 3": 0.2}), names, "a")
    assert [name for name, gain in gains.items() if gain.shown] == ["recipe 3"]


def test_a_recipe_that_scores_as_the_other_has_no_width_and_leaves_the_rest_as_they_are():
    found = resampled(["a", "b"])
    same = Resampled(found.measured | {"c": found.measured["a"]}, found.drawn | {"c": found.drawn["a"]}, found.seed)
    both = differences(same, ["b", "c"], "a")
    assert both["c"] == Difference(0.0, 0.0, 0.0)
    assert both["b"] == differences(found, ["b"], "a")["b"]


def test_seeds_are_drawn_alike_for_every_recipe():
    measured = {"a": np.array([0.5, 0.9]), "b": np.array([0.6, 1.0])}
    drawn = {name: np.tile(values, (500, 1)) for name, values in measured.items()}
    gain = differences(Resampled(measured, drawn, seed=7), ["b"], "a")["b"]
    assert (gain.low, gain.high) == pytest.approx((0.1, 0.1))
