"""The feature engine as a scikit-learn transformer: a first step for any pipeline over transactions.

    from riskdistill.features.transformer import AccountFeatures

    model = make_pipeline(AccountFeatures(), HistGradientBoostingClassifier())
    model.fit(january, is_laundering)           # features of January, each row from what came before it
    model.predict_proba(february)               # February goes on where January ended

Rows are in order of arrival, and what is transformed comes after what was fitted: split by time, as
`TimeSeriesSplit` does, never at random.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from riskdistill.data.canonical import canonical_table
from riskdistill.data.columns import pc
from riskdistill.data.rates import Rates
from riskdistill.features.engine import FeatureEngine
from riskdistill.features.spec import FeatureSpec


class AccountFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns a table of canonical transactions into the context vector of each, float32 [n, features].

    Fitting replays the rows into new account state. Transforming goes on from there and leaves that state as it is,
    so that the same rows give the same features however often they are asked for.

    Args:
        spec: which features; the default is the engine's.
        rates: dollars per unit of each currency as of a day; the default is one fixed table.

    Attributes:
        engine_: the state after the rows that were fitted.
        fitted_until_: the newest of their timestamps.

    Raises:
        TransactionError: a column is missing or a value is no canonical one.
        ValueError: `transform` is asked for rows that came before the last fitted one.
    """

    def __init__(self, spec: FeatureSpec | None = None, rates: Rates | None = None) -> None:
        self.spec = spec
        self.rates = rates

    def fit(self, X: object, y: object = None) -> Self:  # noqa: N803 - scikit-learn's names
        """Replay the transactions `X`, which need no labels."""
        self._begin(X).advance(X)
        return self

    def fit_transform(self, X: object, y: object = None, **_: Any) -> NDArray[np.float32]:  # noqa: N803
        """Replay the transactions `X`; their features, each row's from what came before it."""
        return self._begin(X).encode(X, tokens=False).context

    def _begin(self, X: object) -> FeatureEngine:  # noqa: N803
        self.fitted_until_ = pc.max(canonical_table(X)["timestamp"]).as_py()
        self.engine_ = FeatureEngine(self.spec, self.rates)
        return self.engine_

    def transform(self, X: object) -> NDArray[np.float32]:  # noqa: N803
        """The features of transactions that came after those fitted, each row's from all before it."""
        check_is_fitted(self)
        table = canonical_table(X)
        first = pc.min(table["timestamp"]).as_py()
        if first is not None and self.fitted_until_ is not None and first < self.fitted_until_:
            raise ValueError(
                f"a row of {first} comes before the last fitted one, of {self.fitted_until_}, and would see it; "
                "split by time"
            )
        return self.engine_.preview(table, tokens=False).context

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """The names of the columns."""
        return np.array((self.spec or FeatureSpec()).names, dtype=object)
