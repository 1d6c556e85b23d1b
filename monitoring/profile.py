"""The reference profile: what inputs and scores looked like when the model was accepted; part of the bundle.

Bins are quantiles of the reference and never move afterwards. Equal-width bins over both samples, as many
tools draw them, hide a change of scale: log-normal amounts × 3 give a PSI of 0.002 there and of 0.35 here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitoring.categories import Categories, CategoryCounts, count_kinds
from monitoring.distance import psi
from riskdistill.errors import BundleIncompatibleError, DataError, EmptyInputError, MissingColumnError

BINS: Final = 10
DAY: Final = 86_400_000_000  # microseconds
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
    usual_week: float | None = Field(default=None, description="largest PSI of the reference's own weeks")
    usual_day: float | None = Field(default=None, description="the same of its days")


class Segment(BaseModel):
    """One segment in the reference period."""

    model_config = ConfigDict(frozen=True)

    rows: int
    alert_rate: _Share


class ReferenceProfile(BaseModel):
    """Frozen distributions of a reference period, JSON-able for the bundle."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(ge=1)
    features: tuple[Histogram, ...]
    score: Histogram
    alert_rate: _Share
    bypass_rate: _Share
    rows_per_hour: float | None = Field(default=None, gt=0, description="None where the period is unknown")
    categories: tuple[CategoryCounts, ...] = ()
    segments: dict[str, Segment] = Field(default_factory=dict)

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
    times: NDArray[np.int64] | None = None,
    categories: Categories | None = None,
    segments: Mapping[str, Segment] | None = None,
) -> ReferenceProfile:
    """Freeze the profile of a reference period: use whole days or weeks, at natural prevalence.

    Args:
        context: features, shape (rows, len(names)); NaN and infinity count as missing.
        names: the columns of `context`.
        score: the student's calibrated scores, shape (rows,).
        alert_rate: share of rows that alert (review or hold).
        bypass_rate: share of rows that go on to the teacher.
        hours: length of the period, for the volume check.
        times: of the rows, microseconds since 1970: how far weeks and days of the reference are from the whole
            says what is usual for each column.
        categories: kinds of the rows (or of some of them) by name, such as the channel.
        segments: the parts of the traffic that are watched, by name (`monitoring.segments`).

    Raises:
        EmptyInputError: there are no rows.
        DataError: shapes do not agree, a name is repeated or reserved, or a score is not finite.
    """
    check_window(context, names, score)
    parts = {} if times is None else {length: _parts(times, length) for length in (7, 1)}
    try:
        return ReferenceProfile(
            rows=len(score),
            features=tuple(_freeze(name, context[:, i], parts) for i, name in enumerate(names)),
            score=_freeze(SCORE, score, parts),
            alert_rate=alert_rate,
            bypass_rate=bypass_rate,
            rows_per_hour=None if hours is None else len(score) / hours,
            categories=tuple(count_kinds(name, values) for name, values in (categories or {}).items()),
            segments=dict(segments or {}),
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


def bins_of(values: NDArray[Any], edges: ArrayLike) -> NDArray[np.uint8]:
    """The bin of each value among a `Histogram`'s, from 0; len(edges) + 1 where it is missing."""
    limits = np.asarray(edges, dtype=np.float64)
    bins = np.searchsorted(limits, values, side="left").astype(np.uint8)  # at most 2 * BINS + 1
    bins[~np.isfinite(values)] = len(limits) + 1
    return bins


def count(values: NDArray[Any], edges: ArrayLike) -> NDArray[np.int64]:
    """Rows per bin of a `Histogram` with these `edges`: shape (len(edges) + 2,), the missing ones last."""
    return np.bincount(bins_of(values, edges), minlength=len(np.asarray(edges)) + 2)


def _parts(times: NDArray[np.int64], days: int) -> list[NDArray[np.int64]]:
    """The rows of each whole stretch of so many days; none where there are less than two."""
    number = (times - times.min()) // (days * DAY)
    whole = (times.max() - times.min() + DAY // 24) // (days * DAY)  # an hour of silence at the end is no matter
    return [np.flatnonzero(number == part) for part in range(whole)] if whole >= 2 else []


def _freeze(
    name: str, values: NDArray[Any], parts: Mapping[int, Sequence[NDArray[np.int64]]] | None = None
) -> Histogram:
    """Quantile edges that are values of the reference; a value that fills a whole bin has one to itself.

    So a constant column has bins below, at and above its value, and a zero-inflated one a bin of its zeros.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    edges = np.empty(0)
    if len(finite):
        shares = np.arange(1, BINS) / BINS
        quantiles, repeats = np.unique(np.quantile(finite, shares, method="inverted_cdf"), return_counts=True)
        edges = np.union1d(quantiles, np.nextafter(quantiles[repeats > 1], -np.inf))
    bins = bins_of(values, edges)
    counts = np.bincount(bins, minlength=len(edges) + 2)
    usual = {days: max(_own(bins, rows, counts), default=None) for days, rows in (parts or {}).items()}
    return Histogram(
        name=name,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        usual_week=usual.get(7),
        usual_day=usual.get(1),
    )


def _own(bins: NDArray[np.uint8], parts: Sequence[NDArray[np.int64]], counts: NDArray[np.int64]) -> Iterator[float]:
    """The PSI of each part of the reference against the rest of it."""
    for rows in parts:
        if len(rows):
            part = np.bincount(bins[rows], minlength=len(counts))
            yield psi(counts - part, part)[0]
