"""The domain classifier: can a model tell the window's rows from the reference's by all features together?

It finds shifts in how features go together that no single column shows. A linear discriminant on the features'
places among their frozen bins, and on how far those are from the middle, is fitted on one half of the rows and
judged on the other, and the other way round; what is reported is the ROC-AUC, 0.5 where nothing tells them apart.
The cost is bounded: `ROWS` rows of each side, whatever the window holds.

The same classifier says how likely each row is to come from the window, which weights past labels for estimates of
performance (`monitoring.performance`; Sugiyama, Krauledat and Müller, JMLR 8, 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

ROWS: Final = 2_000  # of each side
FEWEST: Final = 100  # of each side, below which nothing is told
_RIDGE: Final = 0.05

Floats = NDArray[np.float64]


class DomainDrift(BaseModel):
    """How well window and reference are told apart by all features together."""

    model_config = ConfigDict(frozen=True)

    name: str = "all features together"
    rows: int
    auc: float = Field(description="0.5 where nothing tells them apart")
    p_value: float
    alarm: bool = False


def measure_domain(
    reference: NDArray[np.float32],
    window: NDArray[np.float32],
    columns: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> DomainDrift | None:
    """Tell two samples of the same columns apart; None where one of them is too small.

    Args:
        reference, window: shape (rows, features); NaN and infinity count as missing.
        columns: those to tell them apart by; all by default.
        seed: of the rows that are looked at, and of the halves.
    """
    draw = np.random.default_rng(seed)
    chosen = slice(None) if columns is None else list(columns)
    both = [rows[draw.permutation(len(rows))[:ROWS]][:, chosen] for rows in (reference, window)]
    if min(map(len, both)) < FEWEST:
        return None
    places = _places(*both)
    now = np.repeat([False, True], list(map(len, both)))
    fold = draw.permutation(len(now)) % 2
    told = np.empty(len(now))
    for half in (0, 1):
        told[fold == half] = places[fold == half] @ direction(places[fold != half], now[fold != half])
    statistic, p_value = 0.0, 1.0
    for half in (0, 1):  # scores of two models do not compare: each fold is judged alone
        here = fold == half
        found = stats.mannwhitneyu(told[here & now], told[here & ~now], alternative="greater")
        statistic += float(found.statistic) / ((here & now).sum() * (here & ~now).sum()) / 2
        p_value = min(p_value, 2 * float(found.pvalue))
    return DomainDrift(rows=len(now), auc=statistic, p_value=min(1.0, p_value))


def direction(places: Floats, now: NDArray[np.bool_]) -> Floats:
    """The ridged linear discriminant of the rows `now` against the others, shape (columns,)."""
    means = [places[rows].mean(0) for rows in (~now, now)]
    centred = places - np.where(now[:, None], means[1], means[0])
    spread = centred.T @ centred / len(places)
    spread[np.diag_indices_from(spread)] += _RIDGE * max(float(np.trace(spread)) / len(spread), 1e-12)
    return np.asarray(np.linalg.solve(spread, means[1] - means[0]))


def _places(reference: NDArray[np.float32], window: NDArray[np.float32]) -> Floats:
    """Each value's place among the reference's, from -0.5 to 0.5, its square, and whether it is missing."""
    both = np.concatenate([reference, window])
    missing = ~np.isfinite(both)
    place = np.zeros(both.shape)
    for column in range(both.shape[1]):
        known = np.sort(reference[np.isfinite(reference[:, column]), column])
        if len(known):
            left = np.searchsorted(known, both[:, column], "left")
            right = np.searchsorted(known, both[:, column], "right")
            place[:, column] = (left + right) / (2 * len(known)) - 0.5
    place[missing] = 0.0
    parts = np.concatenate([place, place**2, missing[:, missing.any(0)]], axis=1)
    return parts[:, parts.std(0) > 0]
