"""What becomes of whole schemes: which are found, how soon, and how much money has moved until then.

A scheme is found with its first alerted transaction. The detection curve is Kaplan and Meier's (1958): a scheme
that is never alerted is watched until its last transaction and censored there. It therefore reads "of schemes
that last this long"; `found` beside it is the plain share, which needs no such reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from riskdistill.errors import DataError
from riskdistill.evaluation.ranking import Floats, Labels, alert_probability, alerts_within

HOUR: Final = 3_600_000_000  # microseconds


@dataclass(frozen=True)
class SchemeRows:
    """The laundering transactions of the test period, row for row.

    Args:
        scheme: which scheme each belongs to, [m].
        typology: its shape, str[m]; the same within a scheme.
        time: int64[m], microseconds.
        usd: float64[m], at least 0.

    Raises:
        DataError: lengths differ, there is no row, or a time or an amount is no such thing.
    """

    scheme: NDArray[np.generic]
    typology: NDArray[np.generic]
    time: NDArray[np.int64]
    usd: Floats

    def __post_init__(self) -> None:
        lengths = {len(self.scheme), len(self.typology), len(self.time), len(self.usd)}
        if len(lengths) != 1 or 0 in lengths:
            raise DataError("scheme, typology, time and usd must be of one length, above 0", where="scheme rows")
        if not np.issubdtype(self.time.dtype, np.integer):
            raise DataError("times must be whole microseconds", where="scheme rows")
        if not (np.isfinite(self.usd).all() and (self.usd >= 0).all()):
            raise DataError("amounts must be finite and not below 0", where="scheme rows")


class TypologySchemes(BaseModel):
    """Found among the schemes of one shape, and among their transactions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schemes: int
    found: int
    transactions: int
    alerted: int


class SchemeDetection(BaseModel):
    """One model at one alert budget. Medians are over found schemes and None where none was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: float
    schemes: int
    found: int
    median_hours: float | None  # from a scheme's first transaction to its first alert
    median_transactions_before: float | None  # share of the scheme's transactions before the first alert
    median_value_before: float | None  # share of the scheme's value before the first alert
    value_alerted: float  # share of all laundered value that is alerted itself
    value_stoppable: float  # share of it that is alerted or comes after its scheme's first alert
    curve_hours: tuple[float, ...]
    curve_found: tuple[float, ...]  # Kaplan-Meier estimate just after each hour
    typologies: dict[str, TypologySchemes]


def alerted_within(scores: Floats, budget: float) -> Labels:
    """The rows, bool[n], surely alerted at a `budget` (share of traffic); ties at the cut are left out."""
    surely: Labels = alert_probability(scores, alerts_within(budget, len(scores))) >= 1
    return surely


def detection(rows: SchemeRows, alerted: Labels, budget: float) -> SchemeDetection:
    """How schemes fare when the transactions `alerted`, bool[m] of `rows`, are."""
    names, scheme = np.unique(rows.scheme, return_inverse=True)
    schemes = len(names)
    never = np.iinfo(np.int64).max
    first, last, alert = (np.full(schemes, start, np.int64) for start in (never, -never, never))
    np.minimum.at(first, scheme, rows.time)
    np.maximum.at(last, scheme, rows.time)
    np.minimum.at(alert, scheme[alerted], rows.time[alerted])
    found = alert != never
    before = rows.time < alert[scheme]
    value = np.bincount(scheme, rows.usd)
    hours = (np.where(found, alert, last) - first) / HOUR
    curve_hours, curve_found = kaplan_meier(hours, found)
    total = max(float(rows.usd.sum()), np.finfo(float).tiny)
    return SchemeDetection(
        budget=budget,
        schemes=schemes,
        found=int(found.sum()),
        median_hours=_median(hours[found]),
        median_transactions_before=_median((np.bincount(scheme, before) / np.bincount(scheme))[found]),
        median_value_before=_median((np.bincount(scheme, rows.usd * before) / np.maximum(value, 1e-12))[found]),
        value_alerted=float(rows.usd[alerted].sum() / total),
        value_stoppable=float(rows.usd[~before].sum() / total),
        curve_hours=tuple(curve_hours.tolist()),
        curve_found=tuple(curve_found.tolist()),
        typologies=_by_typology(rows, scheme, found, alerted),
    )


def kaplan_meier(hours: Floats, found: Labels) -> tuple[Floats, Floats]:
    """Times of detection, ascending, and the estimated share found by then.

    Args:
        hours: float64[k], until a scheme was found or, where it was not, watched in vain.
        found: bool[k].

    >>> kaplan_meier(np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, False]))
    (array([1., 2.]), array([0.25, 0.5 ]))
    """
    times, events = np.unique(hours[found], return_counts=True)
    at_risk = len(hours) - np.searchsorted(np.sort(hours), times, side="left")
    estimate: Floats = (1 - np.cumprod(1 - events / at_risk)).astype(np.float64)
    return times, estimate


def _by_typology(
    rows: SchemeRows, scheme: NDArray[np.intp], found: Labels, alerted: Labels
) -> dict[str, TypologySchemes]:
    told = {}
    for name in np.unique(rows.typology):
        chosen = rows.typology == name
        members = np.unique(scheme[chosen])
        told[str(name)] = TypologySchemes(
            schemes=len(members),
            found=int(found[members].sum()),
            transactions=int(chosen.sum()),
            alerted=int(alerted[chosen].sum()),
        )
    return told


def _median(values: Floats) -> float | None:
    return float(np.median(values)) if len(values) else None
