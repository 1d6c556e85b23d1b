"""The reference profile: what inputs and scores looked like when the model was accepted; part of the bundle.

Bins are quantiles of the reference and never move afterwards. Equal-width bins over both samples, as many
tools draw them, hide a change of scale: log-normal amounts × 3 give a PSI of 0.002 there and of 0.35 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from riskdistill.errors import BundleIncompatibleError, DataError, EmptyInputError, MissingColumnError

BINS: Final = 10
SCORE: Final = "score"  # the score's name among the columns of a sample

_Share = Annotated[float, Field(ge=0, le=1)]


class Histogram(BaseModel):
    """Rows of one column per frozen bin.

    `counts[i]` holds the values in `(edges[i-1], edges[i]]`, the outer bins being open to infinity; the last
    count, beyond those, holds what is missing (not a finite number).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ReferenceProfile(BaseModel):
    """Frozen distributions of a reference period, JSON-able for the bundle."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(ge=1)
    features: tuple[Histogram, ...]
    score: Histogram
    alert_rate: _Share
    bypass_rate: _Share
    rows_per_hour: float | None = Field(default=None, gt=0, description="None where the period is unknown")

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of the context's columns."""
        return tuple(histogram.name for histogram in self.features)


def build_profile(
    context: NDArray[np.float32],
    names: Sequence[str],
    score: NDArray[np.float64],
    *,
    alert_rate: float,
    bypass_rate: float,
    hours: float | None = None,
) -> ReferenceProfile:
    """Freeze the profile of a reference period: use whole days or weeks, at natural prevalence.

    Args:
        context: features, shape (rows, len(names)); NaN and infinity count as missing.
        names: the columns of `context`.
        score: the student's calibrated scores, shape (rows,).
        alert_rate: share of rows that alert (review or hold).
        bypass_rate: share of rows that go on to the teacher.
        hours: length of the period, for the volume check.

    Raises:
        EmptyInputError: there are no rows.
        DataError: shapes do not agree, a name is repeated or reserved, or a score is not finite.
    """
    check_window(context, names, score)
    try:
        return ReferenceProfile(
            rows=len(score),
            features=tuple(_freeze(name, context[:, i]) for i, name in enumerate(names)),
            score=_freeze(SCORE, score),
            alert_rate=alert_rate,
            bypass_rate=bypass_rate,
            rows_per_hour=None if hours is None else len(score) / hours,
        )
    except (ValidationError, ZeroDivisionError) as error:
        raise DataError(f"the profile is not valid: {error}", where="reference profile") from error


def load_profile(stored: Mapping[str, Any]) -> ReferenceProfile:
    """The profile that a bundle holds as JSON.

    Raises:
        BundleIncompatibleError: it is not a profile.
    """
    try:
        return ReferenceProfile.model_validate(stored)
    except ValidationError as error:
        raise BundleIncompatibleError(
            f"the reference profile cannot be read: {error.errors()[0]['msg']}",
            where=".".join(map(str, error.errors()[0]["loc"])),
            mend="build the bundle again",
        ) from error


def draw_sample(
    context: NDArray[np.float32],
    names: Sequence[str],
    score: NDArray[np.float64],
    *,
    rows: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """At most `rows` seeded rows of context and score, in their order, for the report that people read.

    Raises:
        EmptyInputError, DataError: as `build_profile`.
    """
    check_window(context, names, score)
    chosen = np.random.default_rng(seed).permutation(len(score))[:rows]
    chosen.sort()
    return pd.DataFrame(context[chosen], columns=list(names)).assign(**{SCORE: score[chosen]})


def check_window(context: NDArray[np.float32], names: Sequence[str], score: NDArray[np.float64]) -> None:
    """Check that features, names and scores of a window belong together.

    Raises:
        EmptyInputError: there are no rows.
        DataError: shapes do not agree, a name is repeated or reserved, or a score is not finite.
    """
    if context.shape != (len(score), len(names)) or score.ndim != 1:
        raise DataError(
            f"context is {context.shape} for {len(names)} names and {score.shape} scores",
            mend="pass one row per score and one column per name",
        )
    if len(set(names)) != len(names) or SCORE in names:
        raise DataError(f"feature names repeat, or one is {SCORE!r}", mend="rename the feature")
    if len(score) == 0:
        raise EmptyInputError("the window holds no transactions", mend="choose a longer window")
    if not np.isfinite(score).all():
        raise DataError(f"{int((~np.isfinite(score)).sum())} scores are not finite", mend="score the rows again")


def align(context: NDArray[np.float32], names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float32]:
    """`context` with its columns in the `wanted` order.

    Raises:
        MissingColumnError: the two sets of names differ.
    """
    missing, unknown = set(wanted) - set(names), set(names) - set(wanted)
    if missing or unknown:
        lists = (", ".join(sorted(names)) or "none" for names in (missing, unknown))
        raise MissingColumnError(
            "the features are not the profile's: missing {}; unknown {}".format(*lists),
            where="features of the window",
            mend="use the feature specification of the bundle whose profile this is",
        )
    if tuple(names) == tuple(wanted):
        return context
    place = {name: i for i, name in enumerate(names)}
    return context[:, [place[name] for name in wanted]]


def count(values: NDArray[Any], edges: ArrayLike) -> NDArray[np.int64]:
    """Rows per bin of a `Histogram` with these `edges`: shape (len(edges) + 2,), the missing ones last."""
    limits = np.asarray(edges, dtype=np.float64)
    bins = np.searchsorted(limits, values, side="left")
    bins[~np.isfinite(values)] = len(limits) + 1
    return np.bincount(bins, minlength=len(limits) + 2)


def _freeze(name: str, values: NDArray[Any]) -> Histogram:
    """Quantile edges that are values of the reference; a value that fills a whole bin has one to itself.

    So a constant column has bins below, at and above its value, and a zero-inflated one a bin of its zeros.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0:
        return Histogram(name=name, edges=(), counts=(0, len(values)))
    shares = np.arange(1, BINS) / BINS
    quantiles, repeats = np.unique(np.quantile(finite, shares, method="inverted_cdf"), return_counts=True)
    edges = np.union1d(quantiles, np.nextafter(quantiles[repeats > 1], -np.inf))
    return Histogram(name=name, edges=tuple(edges.tolist()), counts=tuple(count(values, edges).tolist()))
