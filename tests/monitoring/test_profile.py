"""The reference profile: frozen bins for awkward columns, and clear errors for windows that do not fit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from monitoring.profile import ReferenceProfile, align, build_profile, count, draw_sample, load_profile
from riskdistill.errors import BundleIncompatibleError, DataError, EmptyInputError, MissingColumnError

RATES = {"alert_rate": 0.02, "bypass_rate": 0.05}


def profile_of(column: NDArray[Any]) -> ReferenceProfile:
    return build_profile(column.reshape(-1, 1).astype(np.float32), ["x"], np.linspace(0, 1, len(column)), **RATES)


def test_a_continuous_column_has_ten_equal_bins_and_one_for_the_missing() -> None:
    histogram = profile_of(np.arange(1_000)).features[0]
    assert histogram.counts == (*[100] * 10, 0)


def test_a_constant_column_has_bins_below_at_and_above_its_value() -> None:
    histogram = profile_of(np.full(50, 7.0)).features[0]
    assert histogram.counts == (0, 50, 0, 0)
    assert count(np.array([6.9, 7.0, 7.1, np.nan]), histogram.edges).tolist() == [1, 1, 1, 1]


def test_zeros_of_a_zero_inflated_column_have_a_bin_to_themselves() -> None:
    values = np.concatenate((np.zeros(700), np.arange(1, 301)))
    histogram = profile_of(values).features[0]
    assert histogram.counts[:2] == (0, 700)
    assert len(histogram.counts) >= 5


def test_a_rare_value_of_a_binary_column_is_apart_from_the_common_one() -> None:
    assert profile_of(np.repeat([0.0, 1.0], [2, 98])).features[0].counts == (2, 98, 0, 0)


def test_missing_values_are_counted_apart_and_a_column_may_be_all_missing() -> None:
    assert profile_of(np.array([np.nan, np.inf, 1.0, 1.0])).features[0].counts[-1] == 2
    assert profile_of(np.full(3, np.nan)).features[0].counts == (0, 3)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_nan=True, allow_infinity=True))
)
def test_every_row_is_in_one_bin_and_the_profile_survives_json(column: NDArray[np.float32]) -> None:
    profile = profile_of(column)
    assert sum(profile.features[0].counts) == len(column)
    assert load_profile(json.loads(json.dumps(profile.model_dump(mode="json")))) == profile


def test_the_sample_is_seeded_ordered_and_bounded() -> None:
    context, score = np.arange(100, dtype=np.float32).reshape(50, 2), np.linspace(0, 1, 50)
    sample = draw_sample(context, ["a", "b"], score, rows=10, seed=1)
    assert list(sample.columns) == ["a", "b", "score"]
    assert len(sample) == 10
    assert sample["a"].is_monotonic_increasing
    assert sample.equals(draw_sample(context, ["a", "b"], score, rows=10, seed=1))
    assert len(draw_sample(context, ["a", "b"], score)) == 50


@pytest.mark.parametrize(
    ("context", "names", "score", "error", "message"),
    [
        (np.zeros((0, 1)), ["a"], np.zeros(0), EmptyInputError, "no transactions"),
        (np.zeros((2, 1)), ["a", "b"], np.zeros(2), DataError, "2 names"),
        (np.zeros((2, 1)), ["a"], np.zeros(3), DataError, "scores"),
        (np.zeros((2, 2)), ["a", "a"], np.zeros(2), DataError, "repeat"),
        (np.zeros((2, 1)), ["score"], np.zeros(2), DataError, "repeat"),
        (np.zeros((2, 1)), ["a"], np.array([0.1, np.nan]), DataError, "1 scores are not finite"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(
    context: NDArray[Any], names: list[str], score: NDArray[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_profile(context.astype(np.float32), names, score, **RATES)


@pytest.mark.parametrize("wrong", [{"alert_rate": 1.5}, {"bypass_rate": np.nan}, {"hours": 0.0}, {"hours": -1.0}])
def test_rates_that_are_no_rates_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="not valid"):
        build_profile(np.zeros((2, 1), np.float32), ["a"], np.zeros(2), **{**RATES, **wrong})


def test_columns_are_aligned_by_name_and_a_difference_is_named() -> None:
    context = np.array([[1.0, 2.0]], dtype=np.float32)
    assert align(context, ["a", "b"], ["b", "a"]).tolist() == [[2.0, 1.0]]
    with pytest.raises(MissingColumnError, match="missing c; unknown b"):
        align(context, ["a", "b"], ["a", "c"])


@pytest.mark.parametrize("stored", [{}, {"rows": 0}, {"rows": "many"}])
def test_a_stored_profile_that_is_none_is_an_incompatible_bundle(stored: dict[str, Any]) -> None:
    with pytest.raises(BundleIncompatibleError, match="build the bundle again"):
        load_profile(stored)
