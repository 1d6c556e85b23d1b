"""The engine as a scikit-learn transformer: causal, repeatable, at home in pipelines."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from payment_histories import history, table
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from riskdistill.errors import TransactionError
from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.features.transformer import AccountFeatures

ROWS = table(history(np.random.default_rng(4), 120, steps=(60.0, 3_600.0, 40_000.0)))


def test_transformed_rows_go_on_where_the_fitted_ones_ended() -> None:
    whole = FeatureEngine().encode(ROWS, tokens=False).context
    features = AccountFeatures()
    np.testing.assert_array_equal(features.fit_transform(ROWS.slice(0, 80)), whole[:80])
    np.testing.assert_array_equal(features.transform(ROWS.slice(80)), whole[80:])
    np.testing.assert_array_equal(AccountFeatures().fit(ROWS.slice(0, 80)).transform(ROWS.slice(80)), whole[80:])


def test_transforming_twice_gives_the_same() -> None:
    features = AccountFeatures().fit(ROWS.slice(0, 80))
    first = features.transform(ROWS.slice(80))
    np.testing.assert_array_equal(features.transform(ROWS.slice(80)), first)
    assert len(features.engine_) == len(AccountFeatures().fit(ROWS.slice(0, 80)).engine_)


def test_it_is_a_step_of_a_pipeline_that_is_judged_on_later_rows() -> None:
    label = (np.arange(len(ROWS)) % 3 == 0).astype(int)
    model = make_pipeline(
        AccountFeatures(), SimpleImputer(keep_empty_features=True), DecisionTreeClassifier(max_depth=2)
    )
    scores = cross_val_score(model, ROWS.to_pandas(), label, cv=TimeSeriesSplit(3), error_score="raise")
    assert scores.shape == (3,)


def test_columns_are_named_for_pandas() -> None:
    frame = AccountFeatures().set_output(transform="pandas").fit_transform(ROWS.to_pandas())
    assert isinstance(frame, pd.DataFrame)
    assert tuple(frame.columns) == FeatureSpec().names


def test_a_clone_is_unfitted_and_has_the_same_settings() -> None:
    features = AccountFeatures(FeatureSpec(windows=(600.0,))).fit(ROWS)
    copy = clone(features)
    assert copy.spec == features.spec
    with pytest.raises(NotFittedError):
        copy.transform(ROWS)
    assert copy.fit_transform(ROWS).shape[1] == len(features.get_feature_names_out())


def test_a_fitted_one_survives_a_trip_between_processes() -> None:
    features = AccountFeatures().fit(ROWS.slice(0, 80))
    moved = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(moved.transform(ROWS.slice(80)), features.transform(ROWS.slice(80)))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TransactionError, match="amount_paid"):
        AccountFeatures().fit(ROWS.drop_columns("amount_paid"))


def test_rows_from_before_the_last_fitted_one_are_refused_for_they_would_see_the_future() -> None:
    features = AccountFeatures().fit(ROWS)
    with pytest.raises(ValueError, match="split by time"):
        features.transform(ROWS)
